"""Options of systems and features as a user gives them: the right names, with values of the right kind."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from figleaf.errors import FigleafError

_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def require_options(name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises `FigleafError` for an option that is not among those `known` with their defaults, or of another kind."""
    for option, value in options.items():
        where = f"model.options.{option}={value}"
        if option not in known:
            raise FigleafError(f"{where}: {name} has the options {', '.join(known) or 'none'}")
        expected = type(known[option])
        if not (isinstance(value, expected) or (expected is float and isinstance(value, int))) or (
            expected is not bool and isinstance(value, bool)
        ):
            raise FigleafError(f"{where}: expected {_WORDS[expected]}, such as {known[option]}")


@contextmanager
def called_options(names: Iterable[str]) -> Iterator[None]:
    """An estimator refuses `area=2`; whoever set it on the command line finds it as `model.options.area=2`."""
    try:
        yield
    except FigleafError as error:
        if any(str(error).startswith(f"{name}=") for name in names):
            raise FigleafError(f"model.options.{error}") from error
        raise
