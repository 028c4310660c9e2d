"""nestling: compact text-embedding models, made, shrunk, measured and run.

>>> import nestling
>>> model = nestling.load("nano")
>>> model.encode(["a cat sat on the mat", "the kitten rests on a rug"]).shape[0]
2

Names are looked up when first used, so that `import nestling` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nestling.errors import InputError, InputTypeError, MissingExtraError, ModelFileError, NestlingError
    from nestling.model.common import CutWarning
    from nestling.model.load import load, shipped
    from nestling.model.static import StaticModel
    from nestling.probe import Probe

__version__ = "0.1.0"
__all__ = [
    "CutWarning",
    "InputError",
    "InputTypeError",
    "MissingExtraError",
    "ModelFileError",
    "NestlingError",
    "Probe",
    "StaticModel",
    "load",
    "shipped",
]

_HOMES = {
    "load": "model.load",
    "shipped": "model.load",
    "StaticModel": "model.static",
    "CutWarning": "model.common",
    "Probe": "probe",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nestling' has no attribute {name!r}")
    return getattr(import_module(f"nestling.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
