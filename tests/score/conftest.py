"""A folder of small tasks in the shape of the real ones, and a model's results on them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nestling.score.encoders import load_encoder
from nestling.score.run import score

ANIMALS = ["a cat sat on the mat", "the dog chased a cat", "birds nest in tall trees", "an egg lay in the nest",
           "the horse ate fresh hay", "fish swim in the cold sea", "a fox hid from the hounds", "bees make sweet honey",
           "the owl hunts mice at night", "sheep graze on the green hill"]  # fmt: skip
MONEY = ["shares fell on Monday", "the bank raised its rates", "profits grew by a tenth", "taxes rise in the spring",
         "the pound lost its value", "investors sold their bonds", "the firm paid a dividend", "prices rose again",
         "a loan must be repaid", "the budget was cut sharply"]  # fmt: skip
TEXTS = ANIMALS + MONEY
LABELS = [0] * len(ANIMALS) + [1] * len(MONEY)
TASKS = (
    "STSBenchmark", "Banking77Classification", "SIB200Classification/eng_Latn", "BiomedicalShortTextClustering",
    "MRPCPairClassification", "TrecQAReranking", "SciFact", "XQuADRetrieval/en", "SummEvalSummarization.v2",
    "Tatoeba/deu-eng",
)  # fmt: skip


def write(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="session")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("eval")
    pairs = [(a, b) for a in TEXTS[::2] for b in TEXTS[1::2]]
    alike = [float(LABELS[TEXTS.index(a)] == LABELS[TEXTS.index(b)]) + (len(b) % 7) / 10 for a, b in pairs]
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    write(top / "STSBenchmark" / "test.parquet", sentence1=left, sentence2=right, score=alike)
    same = [int(a >= 1) for a in alike]
    write(top / "MRPCPairClassification" / "test.parquet", sentence1=left, sentence2=right, labels=same)
    for split, half in (("train", slice(None, None, 2)), ("test", slice(1, None, 2))):
        write(top / "Banking77Classification" / f"{split}.parquet", text=TEXTS[half], label=LABELS[half])
        names = [("animals", "money")[label] for label in LABELS[half]]
        ids = list(range(len(names)))
        path = top / "SIB200Classification" / "eng_Latn" / f"{split}.parquet"
        write(path, index_id=ids, category=names, text=TEXTS[half])
    sets = {"sentences": [TEXTS, TEXTS[:15]], "labels": [LABELS, LABELS[:15]]}
    write(top / "BiomedicalShortTextClustering" / "test.parquet", **sets)
    ids = [f"d{n}" for n in range(len(TEXTS))]
    queries = {"q1": "a bird and its eggs", "q2": "the price of money", "q3": "never judged"}
    for folder in ("SciFact", "XQuADRetrieval/en", "TrecQAReranking"):
        write(top / folder / "corpus.parquet", _id=ids, title=["" for _ in ids], text=TEXTS)
        write(top / folder / "queries.parquet", _id=list(queries), text=list(queries.values()))
        columns = {"query-id": ["q1", "q1", "q2"], "corpus-id": ["d2", "d3", "d14"], "score": [1, 1, 1]}
        write(top / folder / "qrels.parquet", **columns)
    ranked = {"query-id": ["q1", "q2"], "corpus-ids": [ids[:8], ids[10:18]]}
    write(top / "TrecQAReranking" / "top_ranked.parquet", **ranked)
    write(top / "SummEval" / "test.parquet", id=["1", "2"], text=[ANIMALS[0], MONEY[0]],
          human_summaries=[ANIMALS[:2], MONEY[:2]], machine_summaries=[TEXTS[3:12], ANIMALS[1:10]],
          relevance=[[1.0, 2.0, 3.0, 4.0, 5.0, 1.5, 2.5, 3.5, 4.5]] * 2, coherence=[[1.0] * 9] * 2,
          fluency=[[1.0] * 9] * 2, consistency=[[1.0] * 9] * 2)  # fmt: skip
    write(top / "Tatoeba" / "deu-eng" / "test.parquet", sentence1=TEXTS, sentence2=[f"{text} today" for text in TEXTS])
    return top


@pytest.fixture(scope="session")
def results(tasks_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of nano on all small tasks."""
    out = tmp_path_factory.mktemp("results")
    outcomes = score(load_encoder("nano"), TASKS, tasks_folder, out)
    assert [outcome.error for outcome in outcomes] == [""] * len(TASKS)
    return out
