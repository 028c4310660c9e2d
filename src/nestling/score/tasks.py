"""The tasks: mteb's own, and the few that mteb lacks, each fed from a folder of Parquet files or from the hub.

A folder holds what shared data has: `<Task>/<split>.parquet`, `<Task>/<subset>/<split>.parquet`, and for retrieval and
reranking `corpus`, `queries`, `qrels` and `top_ranked`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask, AbsTaskClassification, AbsTaskClusteringLegacy, AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from nestling.errors import InputError

GET = "Pass --data FOLDER with {name}/..., or --hub to fetch it from the hub."


@dataclass(frozen=True)
class Own:
    """A task that mteb lacks. metric: one that mteb computes for its kind. about: what is asked of a model."""

    kind: Any
    metric: str
    about: str


OWN = {
    "MRPCPairClassification": Own("PairClassification", "max_ap", "Do two news sentences say the same?"),
    "TrecQAReranking": Own("Reranking", "map_at_1000", "Put right answers to a question before wrong ones."),
    "BiomedicalShortTextClustering": Own("Clustering", "v_measure", "Group titles of medical papers by topic."),
    "MetaToolRetrieval": Own("Retrieval", "ndcg_at_10", "Find the tool that a user's request needs."),
    "HateOffensiveClassification": Own("Classification", "accuracy", "Is a tweet hateful, offensive or neither?"),
    "PromptInjectionClassification": Own("Classification", "accuracy", "Is a prompt an attack on its reader?"),
}
BASES: dict[str, type[AbsTask]] = {
    "PairClassification": AbsTaskPairClassification,
    "Reranking": AbsTaskRetrieval,
    "Retrieval": AbsTaskRetrieval,
    "Clustering": AbsTaskClusteringLegacy,
    "Classification": AbsTaskClassification,
}
# Tasks whose files lie under another name, and splits other than the task's own.
FOLDERS = {
    "TwentyNewsgroupsClustering.v2": "TwentyNewsgroupsClustering",
    "SummEvalSummarization.v2": "SummEval",
}
SPLITS = {"SIB200Classification": "test", "STSBenchmarkMultilingualSTS": "test"}

STS = ("STS12", "STS13", "STS15", "STS16", "STSBenchmark", "BIOSSES")
RETRIEVAL = ("SciFact", "FeedbackQARetrieval", "XQuADRetrieval/en", "BIRCO-ArguAna")
ENGLISH = (
    *STS,
    "Banking77Classification",
    "EmotionClassification",
    "TweetSentimentExtractionClassification",
    "SIB200Classification/eng_Latn",
    "TwentyNewsgroupsClustering.v2",
    "BiomedicalShortTextClustering",
    "SIB200ClusteringS2S/eng_Latn",
    "MRPCPairClassification",
    "TrecQAReranking",
    *RETRIEVAL,
)
SUITES: dict[str, tuple[str, ...]] = {
    "english": (*ENGLISH, "SummEvalSummarization.v2"),
    "broad": (
        *ENGLISH,
        "LEMBQMSumRetrieval",
        "MetaToolRetrieval",
        "HateOffensiveClassification",
        "PromptInjectionClassification",
    ),
    "multilingual": (
        "STSBenchmarkMultilingualSTS",
        "JSTS",
        "KorSTS",
        "SIB200Classification",
        "SIB200ClusteringS2S",
        "XQuADRetrieval",
        "Tatoeba",
    ),
    "sts": STS,
    "retrieval": (*RETRIEVAL, "LEMBQMSumRetrieval", "MetaToolRetrieval"),
    "tools": ("MetaToolRetrieval",),
    "long": ("LEMBQMSumRetrieval",),
    "safety": ("HateOffensiveClassification", "PromptInjectionClassification"),
    "quick": (
        "STSBenchmark",
        "Banking77Classification",
        "SIB200ClusteringS2S/eng_Latn",
        "MRPCPairClassification",
        "TrecQAReranking",
        "XQuADRetrieval/en",
        "SummEvalSummarization.v2",
    ),
}


def names_of(suite: str) -> tuple[str, ...]:
    """The tasks of a suite of ours, or of one of mteb's benchmarks, such as "MTEB(eng, v2)"."""
    if suite in SUITES:
        return SUITES[suite]
    try:
        return tuple(task.metadata.name for task in mteb.get_benchmark(suite).tasks)
    except KeyError as error:
        raise InputError(
            f"There is no suite {suite!r}.",
            f"A suite is {', '.join(SUITES)} or the name of a benchmark of mteb.",
            "See nestling score --help.",
        ) from error


def make_task(name: str) -> AbsTask:
    """A task by its name, without data. Raises InputError for a name that nobody knows."""
    if name in OWN:
        return _declared(name, OWN[name])
    try:
        return mteb.get_task(name)
    except KeyError as error:
        raise InputError(
            f"There is no task {name!r}.", f"Tasks are those of mteb and {', '.join(OWN)}.", "Check the spelling."
        ) from error


def split_of(task: AbsTask) -> str:
    """The split that is scored."""
    return SPLITS.get(task.metadata.name, task.eval_splits[0])


def subsets_in(task: AbsTask, data: Path) -> list[str]:
    """The subsets of a task that lie in a data folder: its languages, or "default"."""
    folder = data / FOLDERS.get(task.metadata.name, task.metadata.name)
    if not task.metadata.is_multilingual:
        return ["default"] if folder.is_dir() else []
    return [subset for subset in task.metadata.hf_subsets if (folder / subset).is_dir()]


def fill(task: AbsTask, subsets: Iterable[str], data: Path, hub: bool = False) -> None:
    """Give a task its data: from the folder, or, where it lacks them and `hub` says so, from the hub."""
    name, subsets = task.metadata.name, list(subsets)
    folder = data / FOLDERS.get(name, name)
    task.hf_subsets = subsets
    if not folder.is_dir():
        if not hub:
            raise InputError(
                f"There are no data for {name} in {data}.", "Its Parquet files were expected.", GET.format(name=name)
            )
        task.load_data()
        return
    split = split_of(task)
    if isinstance(task, AbsTaskRetrieval):
        task.dataset = {subset: {split: _retrieval(_part(folder, subset), task)} for subset in subsets}
    elif task.metadata.is_multilingual:
        task.dataset = {subset: _splits(_part(folder, subset)) for subset in subsets}
    else:
        task.dataset = _splits(folder)
    if not isinstance(task, AbsTaskRetrieval):
        task.dataset_transform()
    task.data_loaded = True


def _part(folder: Path, subset: str) -> Path:
    return folder if subset == "default" else folder / subset


def _splits(folder: Path) -> Any:
    return DatasetDict({path.stem: Dataset.from_dict(_columns(path)) for path in sorted(folder.glob("*.parquet"))})


def _columns(path: Path) -> dict[str, list[Any]]:
    if not path.exists():
        raise InputError(f"{path} does not exist.", "It belongs to the task.", "Get the data again.")
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def _retrieval(folder: Path, task: AbsTask) -> Any:
    """What mteb's loader makes of the same tables: queries without a judged document are left out."""
    judged: dict[str, dict[str, int]] = {}
    qrels = _columns(folder / "qrels.parquet")
    for query, document, score in zip(qrels["query-id"], qrels["corpus-id"], qrels["score"], strict=True):
        judged.setdefault(query, {})[document] = int(score)
    queries, corpus = _columns(folder / "queries.parquet"), _columns(folder / "corpus.parquet")
    asked = [(key, text) for key, text in zip(queries["_id"], queries["text"], strict=True) if key in judged]
    ranked = None
    if task.metadata.type == "Reranking":
        table = _columns(folder / "top_ranked.parquet")
        ranked = dict(zip(table["query-id"], table["corpus-ids"], strict=True))
    return {
        "corpus": Dataset.from_dict({"id": corpus["_id"], "title": corpus["title"], "text": corpus["text"]}),
        "queries": Dataset.from_dict({"id": [key for key, _ in asked], "text": [text for _, text in asked]}),
        "relevant_docs": judged,
        "top_ranked": ranked,
    }


def _declared(name: str, own: Own) -> AbsTask:
    metadata = TaskMetadata(
        name=name,
        description=own.about,
        dataset={"path": f"nestling/{name}", "revision": "1"},
        type=own.kind,
        modalities=["text"],
        category="t2t" if own.kind in ("PairClassification", "Reranking", "Retrieval") else "t2c",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=own.metric,
    )
    task: AbsTask = type(name, (BASES[own.kind],), {"metadata": metadata})()
    return task
