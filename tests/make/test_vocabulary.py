"""A corpus's own vocabulary: frequent words that their pieces do not tell get rows, rare pieces lose theirs."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from nestling.make.corpus import Corpus
from nestling.make.distil import Distillation, distil, token_vectors
from nestling.make.settings import Vocabulary
from nestling.make.vocabulary import choose_words, general_counts, spell_pieces, train_pieces
from nestling.teacher import Teacher, load_teacher
from nestling.text.count import count_tokens
from nestling.text.grow import count_words
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer
from nestling.text.twin import parse_tokenizer

CORPUS = Corpus(Path(str(files("nestling.shrink") / "held_out.txt")))
HOW = Distillation(dim=16, whiten=0.0, sentences=300, held_out=60)


@pytest.fixture
def teacher(teacher_folder: Path) -> Teacher:
    return load_teacher(str(teacher_folder))


def test_words_become_rows_of_the_teacher_s_own_vectors(teacher: Teacher, tmp_path: Path) -> None:
    plain = distil(teacher, CORPUS, HOW, tmp_path)
    grown = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(words=25, least=3))
    new = set(grown.tokenizer.pieces) - set(plain.tokenizer.pieces)
    assert 20 <= len(new) <= 60  # BPE needs what comes between, too
    assert set(plain.tokenizer.pieces) <= set(grown.tokenizer.pieces)
    texts = list(CORPUS.texts(60))
    assert grown.count_tokens(texts).sum() < plain.count_tokens(texts).sum()
    assert grown.counts is not None
    assert np.array_equal(grown.counts, count_tokens(grown.tokenizer, texts, grown.table.size))
    assert np.isfinite(grown.table.expanded()).all()


def test_where_no_word_occurs_so_often_none_is_added(teacher: Teacher, tmp_path: Path) -> None:
    plain = distil(teacher, CORPUS, HOW, tmp_path)
    same = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(words=25, least=1_000_000))
    assert same.tokenizer.pieces == plain.tokenizer.pieces
    assert np.array_equal(same.table.expanded(), plain.table.expanded())


def test_the_gain_decides(teacher: Teacher, tmp_path: Path) -> None:
    """Of the words that are there, those of the largest gain are taken, computed again here."""
    whole = check_plan(teacher.tokenizer_json, teacher.name)
    added = {token["id"] for token in whole["added_tokens"]}
    plan, old = keep_pieces(whole, set(range(len(whole["model"]["vocab"]))) - added)
    tokens = [(int(index),) for index in old]
    tokenizer = TextTokenizer(dump_plan(plan), "bare")
    counts = {word: count for word, count in count_words(tokenizer, CORPUS.texts()).items() if count >= 2}

    def vectors(some: list[tuple[int, ...]]) -> np.ndarray:
        return token_vectors(teacher, some, tmp_path)

    pieces, total = vectors(tokens), sum(counts.values())
    gains = {}
    for word, count in counts.items():
        own = vectors([tuple(int(old[index]) for index in word)])[0] - pieces.mean(0)
        sums = (pieces[list(word)] - pieces.mean(0)).sum(0)
        cosine = own @ sums / np.linalg.norm(own) / np.linalg.norm(sums)
        gains[word] = count * (1 - cosine) * np.log(total / count + 1)
    best = {tuple(int(old[index]) for index in word) for word in sorted(gains, key=gains.__getitem__)[-8:]}
    _, stands_for = choose_words(plan, tokens, CORPUS.texts, vectors, Vocabulary(words=8, least=2))
    found = {word for word in stands_for if len(word) > 1}
    assert len(best & found) >= 7  # an int8 or float32 rounding may swap the last two


def test_rare_pieces_fall_back(teacher: Teacher, tmp_path: Path) -> None:
    plain = distil(teacher, CORPUS, HOW, tmp_path)
    pruned = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(words=0, least=3, prune=60))
    assert pruned.table.size < plain.table.size
    assert set(pruned.tokenizer.pieces) < set(plain.tokenizer.pieces)
    texts = list(CORPUS.texts(0, 60))
    assert (np.linalg.norm(pruned.encode(texts), axis=1) > 0.99).all()


def test_general_text_counts_by_the_order_of_the_vocabulary() -> None:
    pieces = ["[UNK]", "[unused1]", "a", "the", "##s", "of", "##ing", "rare"]
    plan = {"model": {"vocab": {piece: index for index, piece in enumerate(pieces)}}, "added_tokens": [{"id": 0}]}
    tokens = [(index,) for index in range(len(pieces))]
    counts = general_counts(plan, [*tokens, (3, 5)], 1_000)
    assert counts.dtype == np.uint32
    assert counts[[0, 1, 2, 4, 8]].tolist() == [0] * 5  # no words, single characters, and what has several ids
    shares = 1 / np.array([2, 3, 4, 5])
    np.testing.assert_array_equal(counts[[3, 5, 6, 7]], (1_000 * shares / shares.sum()).astype(int))
    assert not general_counts(plan, tokens, 0).any()


def test_pieces_of_general_text_stay(teacher: Teacher, tmp_path: Path) -> None:
    sizes = {}
    for general in (0, 20_000):
        model = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(words=0, prune=60, general=general))
        counted = count_tokens(model.tokenizer, CORPUS.texts(60), model.table.size)
        assert model.counts is not None
        sizes[general] = model.table.size
        assert (model.counts >= counted).all()
        assert (model.counts > counted).any() == bool(general)
    assert sizes[0] < sizes[20_000]


def test_a_tokenizer_of_the_corpus_s_own(teacher: Teacher, tmp_path: Path) -> None:
    model = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(pieces=400, words=10, least=3))
    pieces = model.tokenizer.pieces
    assert model.tokenizer.json["model"]["type"] == "Unigram"
    assert 350 < len(pieces) <= 420
    assert sum(piece.startswith("▁") for piece in pieces) > 50
    texts = list(CORPUS.texts(60))
    assert np.array_equal(model.counts, count_tokens(model.tokenizer, texts, model.table.size))
    one, other = model.encode(["Naïve  CAFÉ", "naive cafe"])
    np.testing.assert_array_equal(one, other)
    again = distil(teacher, CORPUS, HOW, tmp_path, words=Vocabulary(pieces=400, words=10, least=3))
    np.testing.assert_array_equal(again.encode(texts[:20]), model.encode(texts[:20]))


def test_a_piece_is_spelt_by_the_teacher(teacher: Teacher) -> None:
    plan = train_pieces(CORPUS.texts(60), 300)
    spelt = spell_pieces(plan, teacher)
    tokenizer = parse_tokenizer(teacher.tokenizer_json, teacher.name)
    for (piece, _), ids in zip(plan["model"]["vocab"], spelt, strict=True):
        text = piece.replace("▁", " ").strip() if piece != "<unk>" else ""
        assert list(ids) == tokenizer.encode(text, add_special_tokens=False).ids
