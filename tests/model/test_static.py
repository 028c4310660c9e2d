"""What `encode` promises: shapes, tiers, limits, dtypes, and the same bits whatever stands beside a text."""

import copy
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling import CutWarning, InputError, InputTypeError
from nestling.model.static import StaticModel
from tests.conftest import DIM, KINDS, model_of

MODELS = {kind: model_of(kind) for kind in KINDS}
LIMITED = {kind: model_of(kind, max_tokens=5) for kind in KINDS}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def test_shapes(model: StaticModel) -> None:
    assert model.encode([]).shape == (0, DIM)
    assert model.encode([], dim=4, dtype="int8").shape == (0, 4)
    assert model.encode("a cat").shape == (DIM,)
    assert model.encode(["a cat"]).shape == (1, DIM)
    assert model.encode(["a cat"] * 3, dim=8).shape == (3, 8)
    assert model.encode(iter(["a", "b"])).dtype == np.float32


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\u200b"])
def test_nothing_is_zeros(text: str) -> None:
    vector = MODELS["wordpiece"].encode(text)
    assert not vector.any()
    assert vector.dtype == np.float32


def test_against_a_plain_loop(model: StaticModel, odd_texts: list[str]) -> None:
    rows = model.table.expanded()
    for text in odd_texts:
        ids = [index for index in model.tokenizer.encode([text]).ids if index not in model.document.drop]
        expected = rows[ids].mean(axis=0) if ids else np.zeros(DIM, np.float32)
        np.testing.assert_allclose(model.encode(text, normalize=False), expected, rtol=1e-4, atol=1e-6)
        length = np.linalg.norm(expected)
        np.testing.assert_allclose(model.encode(text), expected / length if length else expected, atol=1e-6)


def test_sublinear_pooling_weighs_repeats_by_their_root(model: StaticModel) -> None:
    rows = model.table.expanded().astype(np.float64)
    sublinear = model.with_pooling("sublinear")
    assert np.array_equal(model.encode(["the", ""]), sublinear.encode(["the", ""]))
    for text in ("the cat and the dog and the fox", "the " * 250 + "fox", "the cat " * 600):
        ids = model.tokenizer.encode([text]).ids
        known = ids[~np.isin(ids, model.document.drop)]
        counts = np.bincount(known, minlength=len(rows))
        together = np.sqrt(np.minimum(counts, 255)) + np.maximum(counts - 255, 0) * (np.sqrt(255) - np.sqrt(254))
        np.testing.assert_allclose(
            sublinear.encode(text, normalize=False), together @ rows / len(known), rtol=2e-5, atol=1e-6
        )
    assert sublinear.fingerprint != model.fingerprint
    assert sublinear.with_pooling("mean").fingerprint == model.fingerprint
    with pytest.raises(InputError, match="pooling='max' was given"):
        model.with_pooling("max")


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, min_size=1, max_size=12), seed=st.integers(0, 99))
def test_same_bits_alone_in_any_batch_order_and_thread(kind: str, texts: list[str], seed: int) -> None:
    model = MODELS[kind]
    together = model.encode(texts)
    order = np.random.default_rng(seed).permutation(len(texts))
    assert np.array_equal(model.encode([texts[k] for k in order]), together[order])
    assert np.array_equal(np.stack([model.encode(text) for text in texts]), together)
    assert np.array_equal(model.encode(texts * 300, threads=3)[: len(texts)], together)


def test_long_texts_beside_short_ones(model: StaticModel) -> None:
    book = "The quick brown fox jumps over the lazy dog, again and again. " * 2000
    texts = ["a cat", book, "", book[:20_000], "dogs"]
    together = model.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(model.encode(text), vector)


def test_a_megabyte_and_an_emoji(model: StaticModel) -> None:
    for text in ("word " * 200_000, "x" * 1_000_000, "🙂"):
        vector = model.encode(text)
        assert np.isfinite(vector).all()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not vector.any()


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, max_size=6))
def test_unit_or_zero_never_nan(kind: str, texts: list[str]) -> None:
    lengths = np.linalg.norm(MODELS[kind].encode(texts), axis=1)
    assert all(length == 0 or abs(length - 1) < 1e-5 for length in lengths)


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, max_size=6), dim=st.sampled_from([16, 8, 4]))
def test_a_tier_is_the_prefix_renormalised(kind: str, texts: list[str], dim: int) -> None:
    prefix = MODELS[kind].encode(texts)[:, :dim]
    lengths = np.linalg.norm(prefix, axis=1, keepdims=True)
    np.testing.assert_allclose(
        MODELS[kind].encode(texts, dim=dim), prefix / np.where(lengths > 0, lengths, 1), atol=2e-6
    )


@pytest.mark.parametrize("dim", [3, 0, 17, -1])
def test_other_dims_are_refused_by_name(model: StaticModel, dim) -> None:
    with pytest.raises(InputError, match=rf"dim={dim!r} is not a tier of {model.name}. It offers 16, 8, 4. Choose"):
        model.encode("a", dim=dim)


def test_overflow_cut_warns_once(kind: str) -> None:
    model = LIMITED[kind]
    long = "one two three four five six seven eight nine ten"
    with pytest.warns(CutWarning, match="2 of 3 texts had more than 5 tokens") as caught:
        vectors = model.encode([long, "one", long + " eleven"])
    assert len(caught) == 1
    ids = model.tokenizer.encode([long]).ids[:5]
    kept = [index for index in ids if index not in model.document.drop]
    expected = model.table.gather(np.array(kept)).mean(axis=0)
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_overflow_error_names_the_text(kind: str) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] has \d+ tokens. .* takes at most 5"):
        LIMITED[kind].encode(["one", "one two three four five six seven eight nine"], overflow="error")


def test_overflow_split_uses_all(kind: str) -> None:
    long = "one two three four five six seven eight nine ten"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(LIMITED[kind].encode(long, overflow="split"), MODELS[kind].encode(long))


def test_no_limit_cuts_nothing(model: StaticModel) -> None:
    assert model.max_tokens is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode("word " * 5000, overflow="error")


def test_dtypes(model: StaticModel, sentences: list[str]) -> None:
    exact = model.encode(sentences[:50])
    half = model.encode(sentences[:50], dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, exact, atol=1e-3)
    bytes_ = model.encode(sentences[:50], dtype="int8")
    assert bytes_.dtype == np.int8
    assert (np.abs(bytes_.astype(int)).max(axis=1) == 127).all()
    cosines = np.diag(model.similarity(bytes_, exact))
    assert cosines.min() > 0.9999
    bits = model.encode(sentences[:50], dtype="binary")
    assert (bits.shape, bits.dtype) == ((50, 2), np.uint8)
    assert np.array_equal(np.unpackbits(bits, axis=1), exact > 0)
    for dtype in ("float16", "int8", "binary"):
        assert not model.encode("", dtype=dtype).any()


def test_similarity(model: StaticModel, sentences: list[str]) -> None:
    vectors = model.encode(sentences[:20])
    matrix = model.similarity(vectors[:3], vectors)
    assert (matrix.shape, matrix.dtype) == ((3, 20), np.float32)
    np.testing.assert_allclose(matrix, vectors[:3] @ vectors.T, atol=1e-6)
    assert model.similarity(vectors[0], vectors).shape == (1, 20)
    np.testing.assert_allclose(model.similarity(vectors * 7, vectors)[2, 2], 1, atol=1e-6)
    bits = model.encode(sentences[:20], dtype="binary")
    signs = np.sign(vectors)
    np.testing.assert_allclose(model.similarity(bits, bits), signs @ signs.T / DIM, atol=1e-6)
    with pytest.raises(InputError, match="one dim"):
        model.similarity(vectors, vectors[:, :8])
    with pytest.raises(InputError, match="both packed or neither"):
        model.similarity(vectors[:, :2], bits)


def test_options_out_of_range(model: StaticModel) -> None:
    for options, message in [
        ({"overflow": "drop"}, "overflow='drop'"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"threads": 0}, "threads=0"),
        ({"task": "poetry"}, "task='poetry' is not a task"),
        ({"dtype": "int8", "normalize": False}, "normalize=False"),
        ({"out": np.zeros((2, 3), np.float32)}, r"shape \(2, 3\)"),
        ({"out": np.zeros((1, DIM), np.float64)}, "float64"),
    ]:
        with pytest.raises(InputError, match=message):
            model.encode(["a"], **options)


def test_out_is_filled_and_returned(model: StaticModel) -> None:
    out = np.full((2, 8), 9, np.float16)
    assert model.encode(["a cat", "a dog"], dim=8, dtype="float16", out=out) is not None
    assert np.array_equal(out, model.encode(["a cat", "a dog"], dim=8, dtype="float16"))
    one = np.empty(DIM, np.float32)
    model.encode("a cat", out=one)
    assert np.array_equal(one, model.encode("a cat"))


def test_prompts_titles_and_roles(kind: str) -> None:
    model = model_of(kind, prompts={"query": "find: ", "classify": "label: "})
    assert model.tasks == ("query", "classify")
    assert np.array_equal(model.encode_query("a cat"), model.encode("find: a cat"))
    assert np.array_equal(model.encode("a cat", task="classify"), model.encode("label: a cat"))
    assert np.array_equal(model.encode_document(["a cat"]), model.encode(["a cat"]))
    titled = model.encode_document(["a cat", "a dog"], titles=["Pets", ""])
    assert np.array_equal(titled, model.encode(["Pets a cat", "a dog"]))
    assert np.array_equal(model.encode_query(["a"], dim=4), model.encode(["find: a"], dim=4))
    with pytest.raises(InputError, match="1 titles came with 2 texts"):
        model.encode_document(["a", "b"], titles=["one"])
    assert np.array_equal(model.encode_document(iter(["a", "b"]), titles=iter(["T", None])), model.encode(["T a", "b"]))
    assert np.array_equal(
        model.encode_document(["a\ud800"], titles=["\ud800"], errors="replace"), model.encode(["\ufffd a\ufffd"])
    )


@pytest.mark.parametrize(
    ("texts", "titles", "said"),
    [
        ("a", ["one"], "titles came as one str, or with one str"),
        (["a"], "one", "titles came as one str, or with one str"),
        ([None], ["T"], r"texts\[0\] is of type NoneType"),
        (["a", b"b"], ["T", "T"], r"texts\[1\] is of type bytes"),
        ([1.5], ["T"], r"texts\[0\] is of type float"),
        (["a"], [5], r"titles\[0\] is of type int"),
        (["a", "b"], ["T", b"T"], r"titles\[1\] is of type bytes"),
        (["a"], 5, "titles is of type int"),
        (["a"], {"T"}, "titles is of type set"),
    ],
)
def test_titles_and_their_texts_are_checked(texts, titles, said: str) -> None:
    with pytest.raises(InputTypeError, match=said):
        MODELS["bpe"].encode_document(texts, titles=titles)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dim": 8.0}, r"dim=8\.0 was given; a whole number was expected"),
        ({"dim": "8"}, "dim='8' was given; a whole number"),
        ({"dim": True}, "dim=True was given; a whole number"),
        ({"threads": "2"}, "threads='2' was given; a whole number"),
        ({"threads": 1.5}, r"threads=1\.5 was given; a whole number"),
        ({"normalize": "no"}, "normalize='no' was given; True or False"),
        ({"progress": 1}, "progress=1 was given; True or False"),
        ({"out": [0.0] * DIM}, "out is of type list; an array was expected"),
    ],
)
def test_options_of_another_type(model: StaticModel, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputTypeError, match=said):
        model.encode(["a"], **options)  # type: ignore[arg-type]


def test_numpy_s_whole_numbers_are_whole_numbers(model: StaticModel) -> None:
    assert model.encode("a", dim=np.int64(8), threads=np.int32(1)).shape == (8,)  # type: ignore[arg-type]
    assert np.array_equal(model.encode(["a", "b"], threads=2**70), model.encode(["a", "b"]))


def test_numpy_s_names_and_truth_values_are_taken(model: StaticModel) -> None:
    for dtype in (np.float16, np.dtype("float16")):
        halves = model.encode(["a", "b"], dtype=dtype)  # type: ignore[arg-type]
        assert np.array_equal(halves, model.encode(["a", "b"], dtype="float16"))
    with pytest.raises(InputError, match="dtype='float64' was given"):
        model.encode(["a"], dtype=np.float64)  # type: ignore[arg-type]
    means = model.encode(["a", "b"], normalize=np.bool_(False))  # type: ignore[arg-type]
    assert np.array_equal(means, model.encode(["a", "b"], normalize=False))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_goes_into_other_processes(model: StaticModel, again: Any, odd_texts: list[str]) -> None:
    other = again(model)
    assert (other.fingerprint, other.backend, other.tasks) == (model.fingerprint, model.backend, model.tasks)
    assert np.array_equal(other.encode(odd_texts), model.encode(odd_texts))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e30, 1e-30])
def test_similarity_of_vectors_of_any_length(model: StaticModel, scale: float) -> None:
    vectors = np.array([[1.0, 2, 2], [2, 1, -2]]) * scale
    np.testing.assert_allclose(model.similarity(vectors, vectors), np.eye(2), atol=1e-6)


def test_similarity_of_what_is_no_matrix(model: StaticModel) -> None:
    for vectors, said in (
        ([[1.0, 2.0], [1.0]], r"Vectors of different lengths were given\."),
        ([np.nan] * DIM, "a NaN or an infinity"),
        ([np.inf] * DIM, "a NaN or an infinity"),
        (["a"], "One vector or a matrix"),
    ):
        with pytest.raises(InputError, match=said):
            model.similarity(vectors, np.ones((1, DIM), np.float32))


def test_padding_bits_are_no_agreement() -> None:
    """Of a dim of 12, packed to 16 bits: 4 shared bits of padding say nothing."""
    model = model_of("bpe")
    model = model.with_table(model.table.cut(12))
    vectors = model.encode(["a nest", "an egg", "in a tree"])
    bits, signs = model.encode(["a nest", "an egg", "in a tree"], dtype="binary"), np.where(vectors > 0, 1, -1)
    np.testing.assert_allclose(model.similarity(bits, bits), signs @ signs.T / 12, atol=1e-6)


def test_count_tokens(model: StaticModel, odd_texts: list[str]) -> None:
    counts = model.count_tokens(odd_texts)
    assert counts.tolist() == [len(model.tokenizer.encode([text]).ids) for text in odd_texts]
    assert model.count_tokens("a cat") == int(model.count_tokens(["a cat"])[0])
    assert isinstance(model.count_tokens("a cat"), int)


@pytest.mark.parametrize("texts", [None, 1.5, [None], ["a", 3], [["a"]], [b"a"]])
def test_what_is_no_text(model: StaticModel, texts) -> None:
    with pytest.raises(TypeError):
        model.encode(texts)


def test_lone_surrogates(model: StaticModel) -> None:
    with pytest.raises(InputError, match=r"texts\[0\] holds a lone surrogate"):
        model.encode(["a\ud800"])
    assert np.isfinite(model.encode(["a\ud800"], errors="replace")).all()


def test_golden_vectors(kind: str, odd_texts: list[str]) -> None:
    from pathlib import Path

    golden = np.load(Path(__file__).parent.parent / "golden" / "vectors.npz")
    np.testing.assert_allclose(MODELS[kind].encode(odd_texts), golden[kind], atol=1e-6)


def test_fingerprint_follows_what_changes_vectors(kind: str) -> None:
    model = MODELS[kind]
    assert model_of(kind).fingerprint == model.fingerprint
    assert model_of(kind, name="other", licence="MIT").fingerprint == model.fingerprint
    for changes in ({"max_tokens": 9}, {"prompts": {"query": "q: "}}, {"drop": (5,)}):
        assert model_of(kind, **changes).fingerprint != model.fingerprint
    assert model.with_table(model.table.cut(8)).fingerprint != model.fingerprint


def test_many_threads_share_one_model(sentences: list[str]) -> None:
    model = model_of("wordpiece")
    expected, results = MODELS["wordpiece"].encode(sentences), {}

    def work(number: int) -> None:
        results[number] = model.encode(sentences)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(result, expected) for result in results.values())
    assert len(results) == 4
