"""Distillation: the table is what the docstring says it is, computed again here by hand with transformers."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModel

import nestling.make.distil as module
from nestling.errors import InputError
from nestling.make.corpus import Corpus
from nestling.make.distil import Distillation, distil, frequency_weights, sentence_moment, token_vectors, zipf_counts
from nestling.model.static import StaticModel
from nestling.teacher import Teacher, load_teacher
from nestling.text.count import count_tokens
from tests.make.conftest import ENDS, MORE_PIECES

HOW = Distillation(dim=32, whiten=0.0, sentences=400, held_out=60)
HELD_OUT_TXT = Path(str(files("nestling.shrink") / "held_out.txt"))


@pytest.fixture(scope="module")
def teachers(teacher_folders: dict[str, Path]) -> dict[str, Teacher]:
    return {kind: load_teacher(str(folder)) for kind, folder in teacher_folders.items()}


@pytest.fixture
def teacher(teachers: dict[str, Teacher], kind: str) -> Teacher:
    return teachers[kind]


@pytest.fixture
def corpus() -> Corpus:
    return Corpus(HELD_OUT_TXT)


@pytest.fixture(params=[True, False], ids=["corpus", "zipf"])
def text(request: pytest.FixtureRequest, corpus: Corpus) -> Corpus | None:
    return corpus if request.param else None


def old_ids(teacher: Teacher, model: StaticModel) -> npt.NDArray[np.int64]:
    """The teacher's id of each piece of the student."""
    vocabulary = json.loads(teacher.tokenizer_json)["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return np.array([vocabulary[piece] for piece in model.tokenizer.pieces])


def means_by_hand(folder: Path, teacher: Teacher, ids: npt.NDArray[np.int64], kind: str) -> npt.NDArray[np.float32]:
    """The mean over [first id last] of transformers' last hidden state."""
    encoder = AutoModel.from_pretrained(folder).eval()
    tokenizer = json.loads(teacher.tokenizer_json)
    first, last = (next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == end) for end in ENDS[kind])
    with torch.inference_mode():
        states = encoder(torch.tensor([[first, index, last] for index in ids])).last_hidden_state
    return states.mean(dim=1).numpy()


def test_table_by_hand(teacher_folder: Path, teacher: Teacher, text: Corpus | None, kind: str, tmp_path: Path) -> None:
    """Centred means times weights, turned: at full width the turn keeps every inner product."""
    model = distil(teacher, text, HOW, tmp_path)
    ids = old_ids(teacher, model)
    means = means_by_hand(teacher_folder, teacher, ids, kind)
    if text is None:
        ranks = np.array([np.sum(ids < index) for index in ids])
        counts = np.floor(1e9 / (ranks + 2))
    else:
        lines = HELD_OUT_TXT.read_text(encoding="utf-8").splitlines()[HOW.held_out :]
        flat = model.tokenizer.encode(lines).ids
        counts = np.array([np.sum(flat == index) for index in range(len(ids))])
    np.testing.assert_array_equal(model.counts, counts)
    share = (counts + 0.5) / (counts + 0.5).sum()
    expected = (means - means.mean(axis=0)) * (HOW.a / (HOW.a + share))[:, None]
    table = model.table.expanded()
    np.testing.assert_allclose(table @ table.T, expected @ expected.T, atol=2e-4)


def test_only_pieces_of_text_are_left_in_byte_order(teacher: Teacher, kind: str, tmp_path: Path) -> None:
    model = distil(teacher, None, HOW, tmp_path)
    pieces = model.tokenizer.pieces
    gone = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", *MORE_PIECES[kind]}
    assert not gone & set(pieces)
    assert pieces == sorted(pieces, key=lambda piece: piece.encode("utf-8"))
    assert model.table.size == len(pieces) > 500
    unknown = {"wordpiece": "[UNK]", "unigram": "<unk>"}.get(kind)
    assert model.document.drop == ((pieces.index(unknown),) if unknown else ())


def test_a_second_run_gives_the_same_bytes(teacher: Teacher, text: Corpus | None, tmp_path: Path) -> None:
    for name in ("one", "two"):
        distil(teacher, text, Distillation(dim=24, sentences=300, held_out=60), tmp_path / name).save(
            tmp_path / f"{name}.nest"
        )
    assert (tmp_path / "one.nest").read_bytes() == (tmp_path / "two.nest").read_bytes()


def test_resumes_after_the_first_shard(teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_A_SHARD", 50)
    teacher = replace(teacher, tokens_a_batch=60)  # 20 of three ids
    ids = [(index,) for index in range(5, 205)]
    whole = token_vectors(teacher, ids, tmp_path / "whole")
    calls = []

    def counted(batch: npt.NDArray[np.int64], stop_after: int = 10**9) -> npt.NDArray[np.float32]:
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(len(batch))
        return teacher.forward(batch)

    def killed(batch: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return counted(batch, stop_after=4)

    with pytest.raises(KeyboardInterrupt):
        token_vectors(with_forward(teacher, killed), ids, tmp_path / "broken")
    shards = list((tmp_path / "broken").rglob("*.npy"))
    assert len(shards) == 1
    before = shards[0].stat().st_mtime_ns
    calls.clear()
    resumed = token_vectors(with_forward(teacher, counted), ids, tmp_path / "broken")
    assert calls == [20, 20, 10] * 3
    assert shards[0].stat().st_mtime_ns == before
    assert resumed.tobytes() == whole.tobytes()
    names = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.npy"))
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    calls.clear()
    token_vectors(with_forward(teacher, counted), ids, tmp_path / "broken")
    assert calls == []
    token_vectors(with_forward(teacher, counted), ids[::-1], tmp_path / "broken")
    assert len(calls) == 12


def with_forward(teacher: Teacher, forward: object) -> Teacher:
    return Teacher(**{**vars(teacher), "forward": forward})


def test_pooling_is_chosen_before_anything_is_learnt(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    how = replace(HOW, dim=8, pooling="sublinear")
    one, other = (distil(teacher, corpus, each, tmp_path) for each in (replace(how, pooling="mean"), how))
    assert (one.document.pooling, other.document.pooling) == ("mean", "sublinear")
    assert not np.allclose(one.table.expanded(), other.table.expanded(), atol=1e-4)  # other axes of sentences
    with pytest.raises(InputError, match="pooling='max' was given"):
        distil(teacher, corpus, replace(how, pooling="max"), tmp_path)


def test_frequency_weights() -> None:
    counts = np.array([0, 10, 1000], np.uint32)
    weights = frequency_weights(counts, 1e-3)
    shares = np.array([0.5, 10.5, 1000.5]) / 1011.5
    np.testing.assert_allclose(weights, 1e-3 / (1e-3 + shares), rtol=1e-6)
    assert weights.dtype == np.float32
    assert frequency_weights(np.zeros(4, np.uint32), 1.0) == pytest.approx([0.8] * 4)


def test_zipf_counts_follow_the_teacher_s_ids() -> None:
    counts = zipf_counts(np.array([700, 5, 30]))
    assert counts.tolist() == [250_000_000, 500_000_000, 333_333_333]


def test_power_of_sentences_falls_with_the_dim(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    """Over the very sentences that the axes were taken from, the second moment is diagonal and falls."""
    model = distil(teacher, corpus, HOW, tmp_path)
    texts = list(corpus.texts(HOW.held_out, HOW.held_out + HOW.sentences))
    moment = sentence_moment(model, texts)
    powers = np.diag(moment)
    assert np.all(np.diff(powers) <= 1e-6 * powers[0])
    assert np.abs(moment - np.diag(powers)).max() < 1e-4 * powers[0]
    assert powers.sum() == pytest.approx(len(texts), rel=1e-3)


@pytest.mark.parametrize(("whiten", "skip"), [(0.0, 0), (0.5, 0), (1.0, 3)])
def test_axes_are_orthogonal_up_to_whitening(
    teacher: Teacher, corpus: Corpus, whiten: float, skip: int, tmp_path: Path
) -> None:
    """Plain axes at full width, against those of each setting: the same columns, scaled by power ** -whiten / 2."""
    plain = distil(teacher, corpus, HOW, tmp_path).table.expanded()
    how = Distillation(dim=12, whiten=whiten, skip=skip, sentences=HOW.sentences, held_out=HOW.held_out)
    model = distil(teacher, corpus, how, tmp_path)
    turned = model.table.expanded()
    powers = np.diag(sentence_moment(distil(teacher, corpus, HOW, tmp_path), corpus.texts(60, 460)))
    expected = plain[:, skip : skip + 12] * (powers / powers[0])[skip : skip + 12] ** (-whiten / 2)
    np.testing.assert_allclose(turned, expected, rtol=1e-2, atol=1e-3 * np.abs(turned).max())
    assert model.dim == 12


def test_a_smaller_dim_is_a_prefix_and_tiers_are_offered(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    whole = distil(teacher, corpus, HOW, tmp_path)
    assert whole.dims == (32,)
    small = distil(teacher, corpus, Distillation(dim=20, whiten=0.0, sentences=400, held_out=60), tmp_path)
    assert small.dims == (20,)
    np.testing.assert_allclose(small.table.expanded(), whole.table.expanded()[:, :20], atol=1e-5)


def test_tiers_of_a_wider_model(onnx_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    model = distil(load_teacher(str(onnx_folder)), corpus, Distillation(dim=64, held_out=60), tmp_path)
    assert model.dims == (64, 32)
    vectors = model.encode(["a house by the sea"])
    head = vectors[:, :32] / np.linalg.norm(vectors[:, :32])
    np.testing.assert_allclose(model.encode(["a house by the sea"], dim=32), head, atol=1e-6)


def test_dims_that_the_teacher_lacks(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dim=30 after skip=4 axes was asked for\. There are 32 columns\. Ask for"):
        distil(teacher, None, Distillation(dim=30, skip=4), tmp_path)


def test_a_corpus_that_ends_before_the_axes(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No text has a known token\..*Check the corpus\."):
        distil(teacher, corpus, Distillation(dim=8, held_out=4_000), tmp_path)


def test_held_out_texts_are_not_counted(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    model = distil(teacher, corpus, HOW, tmp_path)
    lines = list(corpus.texts())
    used = count_tokens(model.tokenizer, lines[HOW.held_out :], model.table.size)
    np.testing.assert_array_equal(model.counts, used)
    assert used.sum() < count_tokens(model.tokenizer, lines, model.table.size).sum()


def test_corpus_leaves_sources_out(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    rows = {"text": ["one", "two", "three", "four"], "source": ["a", "b", "a", "c"]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    assert list(Corpus(path, leave_out=("b",)).texts()) == ["one", "three", "four"]
    assert list(Corpus(path, leave_out=("b",)).texts(1, 2)) == ["three"]
    assert list(Corpus(path).texts(2)) == ["three", "four"]
    with pytest.raises(InputError, match=r"has no column body\. It has text, source\. Name the column"):
        list(Corpus(path, "body", ("b",)).texts())
