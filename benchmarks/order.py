"""How far models tell the order of words, and negation: mean cosines of pairs that differ in these alone.

    python benchmarks/order.py

Beside them stand paraphrases in other words, which a model that told both would find more alike. Static models see no
order; transformers of 3 MB and 6 MB weigh words by context, but hardly tell order, and one of 91 MB tells little more.
Writes benchmarks/results/order.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nestling.make.recipe import cache_folder
from nestling.score.encoders import Encoder, load_encoder

PATH = Path(__file__).parent / "results" / "order.json"
SOURCES = ("nano", "static", "micro", "mini", str(cache_folder() / "teachers" / "minilm"))
Pairs = Sequence[tuple[str, str]]
LISTS: dict[str, Pairs] = {
    "reordered": (
        ("the dog bites the man", "the man bites the dog"),
        ("flights from London to Paris", "flights from Paris to London"),
        ("Mary gave John the book", "John gave Mary the book"),
        ("the teacher praised the student", "the student praised the teacher"),
        ("convert euros to dollars", "convert dollars to euros"),
        ("the company sued the government", "the government sued the company"),
        ("she left because he came", "he left because she came"),
        ("the north is rich and the south is poor", "the south is rich and the north is poor"),
        ("Spain beat Italy in the final", "Italy beat Spain in the final"),
        ("wash your hands before you eat", "eat before you wash your hands"),
        ("the red car hit the blue truck", "the blue car hit the red truck"),
        ("only the nurse knew what happened", "the nurse knew only what happened"),
    ),
    "negated": (
        ("the shop is open on Sundays", "the shop is not open on Sundays"),
        ("I like this film", "I do not like this film"),
        ("the medicine is safe for children", "the medicine is not safe for children"),
        ("she will come to the meeting", "she will not come to the meeting"),
        ("the train was on time", "the train was never on time"),
        ("he has paid the bill", "he has not paid the bill"),
        ("dogs are allowed in the park", "no dogs are allowed in the park"),
        ("the test passed", "the test did not pass"),
        ("there is milk in the fridge", "there is no milk in the fridge"),
        ("the key opens this door", "the key does not open this door"),
        ("everyone understood the question", "nobody understood the question"),
        ("you can park here at night", "you cannot park here at night"),
    ),
    "paraphrased": (
        ("the child was running quickly", "a kid ran fast"),
        ("how do I reset my password", "I forgot my login and need a new one"),
        ("the film was boring", "I found that movie dull"),
        ("it is raining heavily", "water pours from the sky"),
        ("the firm dismissed a hundred workers", "100 employees were laid off by their company"),
        ("he purchased a car last week", "seven days ago a man bought an automobile"),
        ("the doctor cured her illness", "a physician healed their patient's disease"),
        ("where can I get something to eat", "is there a restaurant nearby"),
        ("the pupils were silent", "no student said a word"),
        ("prices rose sharply", "everything became much more expensive"),
        ("she is afraid of flying", "getting on a plane scares this woman"),
        ("turn off the lights before you leave", "switch all lamps out when going away"),
    ),
}


def main() -> None:
    lines = [judge(load_encoder(source)) for source in SOURCES]
    pairs = {name: len(pairs) for name, pairs in LISTS.items()}
    report = {"command": "python benchmarks/order.py", "pairs": pairs, "lines": lines}
    PATH.write_text(json.dumps(report, indent=1) + "\n")


def judge(encoder: Encoder) -> dict[str, Any]:
    """A line: the mean cosine of each list."""
    line = {"model": encoder.name, **{name: round(alike(encoder, pairs), 4) for name, pairs in LISTS.items()}}
    print(line, flush=True)
    return line


def alike(encoder: Encoder, pairs: Pairs) -> float:
    """The mean cosine of the two texts of a pair."""
    left, right = (encoder.encode(side) for side in zip(*pairs, strict=True))
    return float(np.einsum("ij,ij->i", left, right).mean())


if __name__ == "__main__":
    main()
