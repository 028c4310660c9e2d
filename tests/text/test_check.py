"""What is no text is refused by index and type; nothing is dropped or retyped."""

import numpy as np
import pyarrow
import pytest

from nestling.errors import InputError, InputTypeError
from nestling.text.check import check_texts


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts is of type NoneType"),
        (3.5, "texts is of type float"),
        (b"bytes", "texts is of type bytes"),
        ({"a": 1}, "texts is of type dict"),
        ({"a"}, "texts is of type set"),
        (["a", None], r"texts\[1\] is of type NoneType"),
        (["a", "b", 7], r"texts\[2\] is of type int"),
        ([["nested"]], r"texts\[0\] is of type list"),
        (["a", b"bytes"], r"texts\[1\] is of type bytes"),
        (np.array([1.0]), r"texts\[0\] is of type float64"),
        (np.array("abc"), "texts is of type ndarray"),
        (pyarrow.table({"text": ["a"], "id": [1]}), "texts is a table, a Table; one column was expected"),
        (pyarrow.array(["a", None]), r"texts\[1\] is of type NoneType"),
    ],
)
def test_refused_by_index_and_type(texts, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        check_texts(texts)
    assert isinstance(caught.value, InputTypeError)
    assert str(caught.value).count(".") >= 2 or ";" in str(caught.value)


@pytest.mark.parametrize(
    "texts", [["a", "b"], ("a", "b"), iter(["a", "b"]), np.array(["a", "b"]), pyarrow.array(["a", "b"])]
)
def test_any_iterable_of_str(texts) -> None:
    assert check_texts(texts) == (["a", "b"], False)


def test_one_str() -> None:
    assert check_texts("ab") == (["ab"], True)


def test_lone_surrogate() -> None:
    with pytest.raises(InputError, match=r"texts\[1\] holds a lone surrogate, U\+D83D, at position 2"):
        check_texts(["fine 🙂", "ab\ud83dcd"])
    assert check_texts(["ab\ud83dcd", "\udc00"], "replace") == (["ab\ufffdcd", "\ufffd"], False)
    assert check_texts("🙂\ud83d", "replace") == (["🙂\ufffd"], True)


def test_unknown_way_with_errors() -> None:
    with pytest.raises(InputError, match="errors='ignore'"):
        check_texts("a", "ignore")
