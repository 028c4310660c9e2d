"""Probes: what can a simple head learn from a model's frozen vectors? Toxicity and prompt injection.

Training and metrics are scikit-learn's. Nothing is chosen by looking at a test part: the strength of regularisation
and the threshold come from five folds of the train part.
"""

import html
import re
import statistics
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import InputError, MissingExtraError
from nestling.files.texts import read_table
from nestling.probe import HEADS, HIDDEN, About, Embedder, Floats, Head, Probe
from nestling.score.encoders import Encoder, Remembering

try:
    from scipy.stats import binomtest
    from sklearn import metrics
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise MissingExtraError("scikit-learn", "score", "Training a probe") from error

Truth = npt.NDArray[np.bool_]
QUESTIONS = {"toxicity": ("clean", "toxic"), "injection": ("benign", "injection")}
# Sets whose labels are known: the question, and the label_text of the negatives. All other labels are positive.
DECLARED = {
    "HateOffensiveClassification": ("toxicity", "neither"),
    "PromptInjectionClassification": ("injection", "benign"),
}
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # C of the logistic regression
FOLDS = 5
BINS = 10  # of the calibration error
FEWEST = 10  # texts of either label that a train part needs
FIGURES = ("accuracy", "f1", "precision", "recall", "roc_auc", "average_precision", "recall_at_1_fpr",
           "recall_at_5_fpr", "ece")  # fmt: skip
VERSIONS = ("nestling", "scikit-learn", "scipy", "numpy")
NOT_WORDS = re.compile(r"https?://\S+|@\w+")


@dataclass(frozen=True)
class Part:
    """Texts, their label as the source words it, and whether it is the positive one: (n,) bool."""

    texts: list[str]
    kinds: list[str]
    truth: Truth

    def where(self, kept: Iterable[bool]) -> "Part":
        """The rows for which `kept` holds."""
        rows = np.flatnonzero(list(kept))
        return Part([self.texts[row] for row in rows], [self.kinds[row] for row in rows], self.truth[rows])


@dataclass(frozen=True)
class LabelledSet:
    """A train and a test part that share no text. Make it with `labelled_set` or `read_set`.

    question: a key of QUESTIONS. data: names of the sets that the train part comes from. in_test: train texts that
    were dropped as they stand in the test part too; repeated: those dropped as they stand earlier in the train part.
    """

    name: str
    question: str
    data: tuple[str, ...]
    train: Part
    test: Part
    in_test: int
    repeated: int


def read_set(folder: Path, question: str | None = None) -> LabelledSet:
    """Read train.parquet and test.parquet, with columns text, label and label_text.

    question: of a set that is not in DECLARED, where label 0 is the negative and 1 the positive.
    Raises InputError for a missing file or column, and for labels that are not understood.
    """
    known, negative = DECLARED.get(folder.name, (question, None))
    if known not in QUESTIONS or question not in (None, known):
        raise InputError(
            f"{folder} came with the question {question!r}.",
            f"It is one of {', '.join(QUESTIONS)}; known sets are {', '.join(DECLARED)}, each with its own.",
            "Name the question of this set.",
        )
    train, test = (_read_part(folder / f"{split}.parquet", negative) for split in ("train", "test"))
    return labelled_set(folder.name, str(known), train, test)


def labelled_set(name: str, question: str, train: Part, test: Part, data: Sequence[str] = ()) -> LabelledSet:
    """Put two parts together: train texts that are in the test part, or repeated, are dropped and counted."""
    tested = set(map(normalise, test.texts))
    keys = [normalise(text) for text in train.texts]
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    kept = train.where(first[key] == row and key not in tested for row, key in enumerate(keys))
    positives = int(kept.truth.sum()), int(test.truth.sum())
    if min(positives[0], len(kept.texts) - positives[0]) < FEWEST or positives[1] in (0, len(test.texts)):
        raise InputError(
            f"{name} has {positives[0]} positives among {len(kept.texts)} train texts, and {positives[1]} among "
            f"{len(test.texts)} test texts.",
            f"At least {FEWEST} of both labels to train on and one of both to test on are needed.",
            "Use a larger set.",
        )
    in_test = sum(key in tested for key in keys)
    repeated = len(keys) - in_test - len(kept.texts)
    return LabelledSet(name, question, tuple(data) or (name,), kept, test, in_test, repeated)


def normalise(text: str) -> str:
    """The words of a text in lower case, without links and @names: equal for texts that count as the same."""
    plain = unicodedata.normalize("NFKC", html.unescape(text)).casefold()
    return " ".join(re.findall(r"\w+", NOT_WORDS.sub(" ", plain))) or text.strip()


def _read_part(path: Path, negative: str | None) -> Part:
    """negative: label_text of the negatives; None for labels 0 and 1."""
    columns = read_table(path, ("text", "label", "label_text"), "labelled texts")
    texts, labels, kinds = columns["text"], columns["label"], columns["label_text"]
    if any(type(one) is not str for one in (*texts, *kinds)) or (negative is None and not set(labels) <= {0, 1}):
        raise InputError(
            f"{path} has rows without a text or label_text, or labels that are not 0 and 1.",
            "A label for each text was expected, 1 for the positive.",
            "Drop or mend those rows.",
        )
    truth = np.array(labels) == 1 if negative is None else np.array([kind != negative for kind in kinds])
    return Part(texts, kinds, truth.astype(np.bool_))


def train_probe(encoder: Embedder, labelled: LabelledSet, head: Head, seed: int, source: str | None = None) -> Probe:
    """Train a head on the train part of a set; its test part is not looked at.

    seed: of the folds, and of the MLP's start. source: how `nestling.load` finds the model again; default its name.
    """
    vectors = np.asarray(encoder.encode(labelled.train.texts), np.float64)
    fitted, held_out = fit(vectors, labelled.train.truth, head, seed)
    about = About(
        kind=head,
        task=labelled.question,
        labels=QUESTIONS[labelled.question],
        threshold=best_threshold(labelled.train.truth, held_out),
        model=encoder.name,
        source=source or encoder.name,
        fingerprint=encoder.fingerprint,
        dim=vectors.shape[1],
        seed=seed,
        data=labelled.data,
    )
    return Probe(about, _tensors_of(fitted), encoder)


def fit(vectors: Floats, truth: Truth, head: Head, seed: int) -> tuple[Pipeline, Floats]:
    """Fit standardisation and a head: the pipeline, and the (n,) probabilities of the folds that did not see a row.

    The C of a logistic regression is the one with the best mean ROC-AUC over the folds.
    """
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    if head == "mlp":
        layers = MLPClassifier((HIDDEN,), learning_rate_init=1e-3, early_stopping=True, random_state=seed)
        pipeline = make_pipeline(StandardScaler(), layers)
    else:
        weight = "balanced" if head == "lr-balanced" else None
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight=weight))
        grid = {"logisticregression__C": STRENGTHS}
        search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds, refit=False).fit(vectors, truth)
        pipeline.set_params(**search.best_params_)
    held_out = cross_val_predict(pipeline, vectors, truth, cv=folds, method="predict_proba")[:, 1]
    return pipeline.fit(vectors, truth), held_out


def best_threshold(truth: Truth, probabilities: Floats) -> float:
    """The probability from which calling a text positive gives the best F1."""
    precision, recall, cuts = metrics.precision_recall_curve(truth, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(cuts[np.argmax(f1[:-1])])


def _tensors_of(fitted: Pipeline) -> dict[str, npt.NDArray[Any]]:
    scaler, last = fitted[0], fitted[-1]
    scaling = {"mean": scaler.mean_, "scale": scaler.scale_}
    if isinstance(last, LogisticRegression):
        return {**scaling, "weight": last.coef_.T, "bias": last.intercept_}
    (into, out), (first, second) = last.coefs_, last.intercepts_
    return {**scaling, "hidden.weight": into, "hidden.bias": first, "weight": out, "bias": second}


def measure(truth: Truth, probabilities: Floats, threshold: float) -> dict[str, Any]:
    """FIGURES of (n,) probabilities, the four counts, and exact 95 % intervals of accuracy, precision and recall.

    recall_at_1_fpr is read off the ROC curve: the recall of the lowest threshold that lets through at most 1 % of the
    negatives *of this very set*. It does not depend on `threshold`.
    """
    said = probabilities >= threshold
    right_no, false_yes, missed, right_yes = map(int, metrics.confusion_matrix(truth, said, labels=[False, True]).flat)
    false_rate, found, _ = metrics.roc_curve(truth, probabilities, drop_intermediate=False)
    figures = {
        "accuracy": metrics.accuracy_score(truth, said),
        "f1": metrics.f1_score(truth, said, zero_division=0.0),
        "precision": metrics.precision_score(truth, said, zero_division=0.0),
        "recall": metrics.recall_score(truth, said),
        "roc_auc": metrics.roc_auc_score(truth, probabilities),
        "average_precision": metrics.average_precision_score(truth, probabilities),
        "recall_at_1_fpr": found[false_rate <= 0.01].max(),
        "recall_at_5_fpr": found[false_rate <= 0.05].max(),
        "ece": calibration_error(truth, probabilities),
    }
    return {
        **{name: float(value) for name, value in figures.items()},
        "counts": {"tp": right_yes, "fp": false_yes, "fn": missed, "tn": right_no},
        "intervals": {
            "accuracy": exact_interval(right_yes + right_no, len(truth)),
            "precision": exact_interval(right_yes, right_yes + false_yes),
            "recall": exact_interval(right_yes, right_yes + missed),
        },
    }


def exact_interval(hits: int, trials: int) -> list[float] | None:
    """The 95 % interval of Clopper and Pearson for a share; None where there were no trials."""
    if not trials:
        return None
    interval = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return [float(interval.low), float(interval.high)]


def calibration_error(truth: Truth, probabilities: Floats) -> float:
    """Expected calibration error: the gap between mean probability and share of positives, over ten equal bins."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, probabilities, BINS) - np.bincount(bins, truth, BINS)
    return float(np.abs(gaps).sum() / len(truth))


def run_probes(
    encoder: Encoder,
    data: Path,
    *,
    seeds: int = 5,
    extra: Sequence[tuple[str, Path]] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Train and measure every head on every set: one JSON-ready report.

    data: folder with the declared sets; those that are not there are listed as missing. seeds: runs of the MLP.
    extra: (question, folder) of more sets; sets of one question are also tested on one another.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds} was given;", "at least 1 was expected.", "Pass a larger number.")
    there = [data / name for name in DECLARED if (data / name).is_dir()]
    sets = [read_set(folder) for folder in there] + [read_set(folder, question) for question, folder in extra]
    if not sets:
        raise InputError(f"{data} has no labelled set.", f"Looked for were {', '.join(DECLARED)}.", "Pass --data.")
    transfers = [*across_sets(sets), *(one for whole in sets[: len(there)] for one in across_kinds(whole))]
    once = Remembering(encoder)
    bar = tqdm(total=len(sets + transfers) * len(HEADS), desc="probe", unit=" heads", disable=not progress)
    with bar:
        judged = [judge(once, labelled, seeds, bar) for labelled in (*sets, *transfers)]
    return {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dims[0],
        "seeds": seeds,
        "versions": {package: version(package) for package in VERSIONS},
        "missing": [name for name in DECLARED if data / name not in there],
        "sets": judged[: len(sets)],
        "transfer": judged[len(sets) :],
    }


def across_sets(sets: Sequence[LabelledSet]) -> Iterator[LabelledSet]:
    """Train on one set and test on another of the same question, for all such pairs."""
    for source in sets:
        for target in sets:
            if source is not target and source.question == target.question:
                name = f"{source.name} -> {target.name}"
                yield labelled_set(name, source.question, source.train, target.test, source.data)


def across_kinds(whole: LabelledSet) -> Iterator[LabelledSet]:
    """Within a set with several kinds of positives: train on one kind and the negatives, test on the other kinds and
    the negatives. The negatives, and the place where the texts were gathered, stay the same: a weaker trial than
    another set."""
    kinds = sorted({kind for kind, positive in zip(whole.train.kinds, whole.train.truth, strict=True) if positive})
    for kind in kinds if len(kinds) > 1 else []:
        name = f"{whole.name}: {kind} -> {', '.join(other for other in kinds if other != kind)}"
        train = whole.train.where(~whole.train.truth | np.array([one == kind for one in whole.train.kinds]))
        test = whole.test.where(~whole.test.truth | np.array([one != kind for one in whole.test.kinds]))
        yield labelled_set(name, whole.question, train, test, whole.data)


def judge(encoder: Embedder, labelled: LabelledSet, seeds: int, bar: Any = None) -> dict[str, Any]:
    """Every head trained on the train part and measured on the test part. A logistic regression is trained once."""
    heads = {}
    for head in HEADS:
        runs = [_run(encoder, labelled, head, seed) for seed in range(seeds if head == "mlp" else 1)]
        heads[head] = {
            "mean": {name: statistics.fmean(run[name] for run in runs) for name in FIGURES},
            "sd": {name: statistics.stdev(run[name] for run in runs) for name in FIGURES} if len(runs) > 1 else None,
            "runs": runs,
        }
        if bar is not None:
            bar.update()
    return {
        "name": labelled.name,
        "question": labelled.question,
        "train": _sizes(labelled.train),
        "test": _sizes(labelled.test),
        "dropped": {"in_test": labelled.in_test, "repeated": labelled.repeated},
        "heads": heads,
    }


def _run(encoder: Embedder, labelled: LabelledSet, head: Head, seed: int) -> dict[str, Any]:
    """Train once, and measure the probe as it would be saved."""
    probe = train_probe(encoder, labelled, head, seed)
    probabilities = probe.predict_proba(labelled.test.texts)
    return {
        "seed": seed,
        "threshold": probe.about.threshold,
        **measure(labelled.test.truth, probabilities, probe.about.threshold),
    }


def _sizes(part: Part) -> dict[str, int]:
    return {"texts": len(part.texts), "positives": int(part.truth.sum())}


def show(report: dict[str, Any]) -> str:
    """The report as a table for a terminal: per set and head the figures x 100, of the MLP as mean ± sd."""
    lines = [f"{report['name']}  {report['dim']} dims, {report['seeds']} seeds of the MLP"]
    for entry in (*report["sets"], *report["transfer"]):
        train, test, dropped = entry["train"], entry["test"], entry["dropped"]
        lines += [
            "",
            f"{entry['name']} ({entry['question']})",
            f"train {train['texts']:,}, {train['positives']:,} positive; test {test['texts']:,}, "
            f"{test['positives']:,} positive; dropped {dropped['in_test']} in test, {dropped['repeated']} repeated",
            " " * 12 + "".join(f"{name.replace('average_precision', 'ap'):>16}" for name in FIGURES),
        ]
        lines += [f"{head:12}" + "".join(map("{:>16}".format, _cells(one))) for head, one in entry["heads"].items()]
    return "\n".join(lines)


def _cells(head: dict[str, Any]) -> list[str]:
    if head["sd"] is None:
        return [f"{100 * head['mean'][name]:.1f}" for name in FIGURES]
    return [f"{100 * head['mean'][name]:.1f} ± {100 * head['sd'][name]:.1f}" for name in FIGURES]
