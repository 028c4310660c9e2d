"""nestling: compact text-embedding models, made, shrunk, measured and run.

>>> import nestling
>>> model = nestling.load("nano")
>>> vectors = model.encode(["a cat sat on the mat", "the kitten rests on a rug"])
>>> vectors.shape
(2, 128)
"""

from nestling.errors import InputError, InputTypeError, MissingExtraError, ModelFileError, NestlingError
from nestling.model.load import load, shipped
from nestling.model.static import CutWarning, StaticModel

__version__ = "0.1.0"
__all__ = [
    "CutWarning",
    "InputError",
    "InputTypeError",
    "MissingExtraError",
    "ModelFileError",
    "NestlingError",
    "StaticModel",
    "load",
    "shipped",
]
