"""For sentence-transformers: a model of nestling as a SentenceTransformer.

from nestling.sentence_transformers import load_sentence_transformer
model = load_sentence_transformer("micro")
model.encode(["a text"])
"""

from pathlib import Path
from typing import Any

from nestling.errors import MissingExtraError
from nestling.files.foreign import prompts_of, task_prompt
from nestling.model.common import Model
from nestling.model.load import load

try:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise MissingExtraError("sentence-transformers", "train", "A model for sentence-transformers") from error


def load_sentence_transformer(source: str | Path) -> SentenceTransformer:
    """A model of nestling, from wherever `nestling.load` takes it, with its vectors, at unit length.

    Its tasks are prompts here: `encode(texts, prompt_name="sym")`; `encode_query` and `encode_document` take those that
    the model's file says. It embeds; it cannot be trained there.
    """
    module = Nestling(load(source))
    prompts = prompts_of(module.model.document)
    return SentenceTransformer(modules=[module], prompts=prompts, similarity_fn_name="cosine", device="cpu")


class Nestling(InputModule):
    """The only module of such a SentenceTransformer. A prompt of the form "[qry] " stands for the task of that name."""

    def __init__(self, model: Model) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *_: Any, **__: Any) -> "Nestling":
        """What `save` wrote, or `TransformerModel.save` with layout="sentence-transformers"."""
        folder = Path(model_name_or_path) / subfolder
        return cls(load(folder if folder.is_dir() else model_name_or_path))

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, torch.Tensor]:
        """Vectors at once: what lies between them and texts is the core's."""
        tasks = {task_prompt(task): task for task in self.model.document.task_tokens}
        task = tasks.get(prompt or "")
        if prompt and not task:
            inputs = [prompt + text for text in inputs]
        return {"sentence_embedding": torch.from_numpy(self.model.encode(inputs, task=task))}

    def forward(self, features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        """What `preprocess` made."""
        return features

    @property
    def max_seq_length(self) -> int | None:
        """The longest text in tokens; None for no limit."""
        return self.model.max_tokens

    def get_embedding_dimension(self) -> int:
        """Columns of a vector."""
        return self.model.dim

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write the model's file into a folder that sentence-transformers writes."""
        self.model.save(Path(output_path) / "model.nest")
