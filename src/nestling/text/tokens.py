"""What a tokenizer gives: the ids of many texts, end to end."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tokens:
    """Token ids of n texts: text i is ids[offsets[i]:offsets[i + 1]].

    ids: (total,) int32; offsets: (n + 1,) int64.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) int64 token counts."""
        return np.diff(self.offsets)
