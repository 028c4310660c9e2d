"""The few errors that nestling raises. Each says what was given, what was expected, and what to do."""

from operator import index


class NestlingError(Exception):
    """Base of every error raised on purpose.

    given: what was met, with its name or place; expected: what is accepted; do: the way on.
    """

    def __init__(self, given: str, expected: str, do: str) -> None:
        super().__init__(given, expected, do)
        self.given, self.expected, self.do = given, expected, do

    def __str__(self) -> str:
        return f"{self.given} {self.expected} {self.do}"


class InputError(NestlingError, ValueError):
    """A value that cannot be used: an unknown option, a text that cannot be encoded, a refused dim."""


class InputTypeError(NestlingError, TypeError):
    """A value of the wrong type."""


class ModelFileError(NestlingError):
    """A model file or folder that is damaged, hostile or of an unknown kind."""


class MissingExtraError(NestlingError, ImportError):
    """An optional package that this call needs is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        NestlingError.__init__(
            self,
            f"{purpose} needs the package {package}, which is not installed.",
            f"It comes with the extra [{extra}].",
            f"Type: pip install --upgrade {package}",
        )
        self.package, self.extra, self.purpose = package, extra, purpose

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.purpose)


def one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise InputError unless the option `name` has a known value."""
    if value not in known:
        raise InputError(f"{name}={value!r} was given;", f"known are {', '.join(known)}.", "Choose one of them.")


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """The value of the option `name`, if it is a whole number, of at least `least`."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InputTypeError(f"{name}={value!r} was given;", "a whole number was expected.", "Pass an int.")
    if least is not None and number < least:
        raise InputError(f"{name}={value!r} was given;", f"at least {least} was expected.", "Give a larger number.")
    return number
