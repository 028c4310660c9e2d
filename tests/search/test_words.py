"""BM25 over the words of a query."""

import numpy as np
import pytest

from nestling.search.words import Wording, shares


def test_terms_are_first_letters_once() -> None:
    assert Wording("Searching the searches, SEARCH of an egg").terms == ["searc", "egg"]
    assert Wording("How is it?").terms == ["how", "is", "it"]
    assert Wording("?! --").terms == []


def test_count() -> None:
    wording = Wording("search index egg")
    assert wording.count("Searches researched search_index; indexes, an EGG, eggs and an egg") == [2, 1, 2]
    assert wording.count("") == [0, 0, 0]


def test_scripts_without_spaces() -> None:
    assert Wording("東京").count("私は東京に住む。東京タワー") == [2]


def test_shares() -> None:
    counts = [[1, 1], [1, 0], [0, 0], [5, 0], [0, 0]]
    found = shares(counts, [100] * 5)
    assert found[0] == pytest.approx(1 / 1.2)
    assert 0 < found[1] < found[3] < found[0]
    assert found[2] == found[4] == 0
    assert shares([], []).shape == (0,)


def test_no_share_is_above_one() -> None:
    found = shares([[3]] + [[0]] * 40, [20] + [500] * 40)
    assert 0.8 < found[0] < 1
    assert shares([[10**9, 10**9], [0, 0]], [1, 10**9])[0] <= 1


def test_a_rare_word_counts_for_more_and_a_long_passage_for_less() -> None:
    counts = [[1, 0], [1, 0], [1, 0], [0, 1]]
    rare = shares(counts, [100] * 4)
    assert rare[3] > rare[0]
    long = shares([[1], [1], [0]], [100, 1000, 100])
    assert long[0] > long[1]


def test_the_order_of_passages_changes_nothing() -> None:
    counts, lengths = np.array([[1, 2], [0, 1], [3, 0], [0, 0]]), np.array([50, 80, 900, 10])
    assert np.allclose(
        shares(counts[::-1].tolist(), lengths[::-1].tolist())[::-1], shares(counts.tolist(), lengths.tolist())
    )
