"""`load`: a shipped name, a .nest file, a folder, or a hub id -> a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nestling.errors import InputError
from nestling.files.hub import find_folder
from nestling.files.nest import read_nest
from nestling.files.parts import Parts
from nestling.model.common import Array, Model
from nestling.model.pack import to_int4, to_int8
from nestling.model.rows import FloatRows, Int4Rows, Int8Rows, Table
from nestling.model.static import StaticModel

if TYPE_CHECKING:
    from nestling.model.transformer import TransformerModel

TableDtype = Literal["float32", "float16", "int8", "int4", "int8-fast"]


def shipped() -> dict[str, Path]:
    """The models that come with the package, smallest first: name -> file."""
    files = (Path(__file__).parents[1] / "models").glob("*.nest")
    return {path.stem: path for path in sorted(files, key=lambda path: path.stat().st_size)}


def load(
    source: str | Path,
    *,
    dim: int | None = None,
    dtype: TableDtype | None = None,
    runtime: Literal["core", "onnxruntime"] = "core",
    revision: str | None = None,
) -> Model:
    """Load a model: a StaticModel or a TransformerModel.

    source: a shipped name ("nano"), a .nest file, a folder (model2vec or sentence-transformers StaticEmbedding), or a
    hub id, looked up in the local cache first. dim: keep only this tier. dtype: quantize the table, "int8" or "int4"
    with a scale a row, or widen it; "int8-fast", of transformers alone, is what their runtime "core" does anyway.
    runtime: of a transformer, "core", which multiplies its matrices in whole numbers, or "onnxruntime", which does so
    in float32 (docs/transformers.md). revision: of a hub id.

    Raises InputError if there is no such model or tier, ModelFileError if the file is damaged or of another kind,
    MissingExtraError if the runtime is not installed.
    """
    model = _open(locate(source, revision))
    if runtime != "core" or dtype == "int8-fast":
        model = _transformer(model).with_runtime(runtime)
    if dim is not None:
        model = model.with_dim(dim)
    return model if dtype is None or dtype == "int8-fast" else model.with_table(requantize(model.table, dtype))


def load_transformer(source: str | Path) -> "TransformerModel":
    """Load a transformer. Raises InputError for any other."""
    return _transformer(load(source))


def _transformer(model: Model) -> "TransformerModel":
    from nestling.model.transformer import TransformerModel

    if not isinstance(model, TransformerModel):
        raise InputError(
            f"{model.name} is a static model.", "A transformer was expected.", "Choose one, such as micro."
        )
    return model


def load_static(source: str | Path) -> StaticModel:
    """Load a static model. Raises InputError for any other."""
    model = load(source)
    if not isinstance(model, StaticModel):
        raise InputError(
            f"{model.name} is a transformer.", "A static model was expected.", "Choose one, such as nano or static."
        )
    return model


def locate(source: str | Path, revision: str | None = None) -> Path:
    """The file or folder that `load` reads. A Path is never a shipped name."""
    known = shipped()
    found = known.get(source, source) if isinstance(source, str) else source
    return find_folder(found, revision=revision, names=known)


def _open(path: Path) -> Model:
    nests = sorted(path.glob("*.nest")) if path.is_dir() else [path]
    if len(nests) > 1:
        raise InputError(
            f"{path} holds {len(nests)} .nest files.", "One model was expected.", f"Name one, such as {nests[0]}."
        )
    if nests:
        return _model(*read_nest(nests[0]))
    from nestling.files.foreign import read_folder

    return StaticModel(read_folder(path))


def _model(parts: Parts, canaries: Array, fingerprint: str) -> Model:
    if parts.document.architecture == "static":
        return StaticModel(parts, canaries, fingerprint)
    from nestling.model.transformer import TransformerModel

    return TransformerModel(parts, canaries, fingerprint)


def requantize(table: Table, dtype: str) -> Table:
    """The same table as plain rows of another dtype, weights folded in."""
    rows = table.expanded()
    if dtype in ("float32", "float16"):
        return Table(FloatRows(rows.astype(dtype)))
    if dtype == "int8":
        return Table(Int8Rows(*to_int8(rows)))
    if dtype == "int4":
        values, scales = to_int4(rows)
        return Table(Int4Rows(values, scales.astype(np.float16)))
    raise InputError(
        f"dtype={dtype!r} was given;",
        "known are float32, float16, int8, int4, and int8-fast for transformers.",
        "Choose one of them.",
    )
