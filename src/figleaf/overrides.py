"""Overrides as a person types them, `key=value`, in Hydra's grammar.

An override that the grammar refuses or reads as something else than its key takes is named alone, with the form to type
in a shell: Hydra's own message shows a token of the grammar, and not always of which override.
"""

import dataclasses
import difflib
import re
import shlex
import types
import typing
from collections.abc import Sequence
from itertools import product
from typing import Any

from figleaf.errors import FigleafError
from figleaf.settings import groups_of

_NUMBER = re.compile(r"[0-9][0-9_]*(\.[0-9]*)?([eE][+-]?[0-9]+)?")
# What the grammar has a use for; the rest of Unicode is an error to it outside of quotes.
_READ = re.compile(r"[A-Za-z0-9_/\-\\+.$%*@?|:=,()\[\]{} \t'\"]*")
_MEANS_SOMETHING = re.compile(r"[=,()\[\]{}'\"]")
# What may stand in a list without quotes, and is no number, truth value or null.
_PLAIN_NAME = re.compile(r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][A-Za-z0-9_./-]*", re.IGNORECASE)
_PLAIN_PATH = re.compile(r"[./][A-Za-z0-9_./-]*|[a-z]+:[A-Za-z0-9_./:-]+")
_OPEN_INTERPOLATION = re.compile(r"\$\{(?![^{}]*\})")
# In a shell's double quotes these are no letters; two backslashes would become one.
_NOT_IN_DOUBLE_QUOTES = re.compile(r'["$`!]|\\\\')
_QUOTES = ("'", '"')
_ANY = "NAME"  # stands for the keys of a mapping


def addressed(overrides: Sequence[str], schema: type) -> list[str]:
    """Overrides of `schema` in which every known key is set whether or not a file of `conf/` mentions it.

    Hydra would demand a `+` for keys that have a default in the schema only. Raises `FigleafError` for an unknown key
    and for a value that is not one, as its key takes it; the message shows the form to type.
    """
    known = _keys(schema)
    # A mapping that may hold any key is set as a whole like a plain value; presets are there for groups.
    groups = {name for name in known if any(key.startswith(f"{name}.") and key != f"{name}.{_ANY}" for key in known)}
    found = []
    for override in _split(overrides, known):
        text = _readable(override, schema)
        _require_one_value(text, override, schema)
        found.append(text if override.name in groups or override.key != override.name else f"++{text}")
    return found


def combinations(overrides: Sequence[str], schema: type) -> list[list[str]]:
    """Every combination of a multirun's sweeps (`seed=1,2 model=vgg16,vgg19`), each a list of overrides.

    Raises `FigleafError` as `addressed` does.
    """
    axes = []
    for override in _split(overrides, _keys(schema)):
        text = _readable(override, schema)
        parsed = _parsed(text, override, schema, sweeps=True)
        swept = parsed.is_sweep_override()
        axes.append([f"{override.key}={value}" for value in parsed.sweep_string_iterator()] if swept else [text])
    return [list(combination) for combination in product(*axes)]


def written(key: str, value: Any) -> str:
    """The override that gives `key` this plain value: null, truth value, number, text, or a list or group of these."""
    return f"{key}={_literal(value)}"


@dataclasses.dataclass(frozen=True)
class _Override:
    """`text` as typed; its `key` with the marks + and ~, its `name` without, and its `value` (None: it has none)."""

    text: str
    key: str
    value: str | None

    @property
    def name(self) -> str:
        return self.key.lstrip("+~")


def _split(overrides: Sequence[str], known: Sequence[str]) -> list[_Override]:
    """Keys and values apart; unknown keys refused."""
    found = []
    for position, text in enumerate(overrides):
        key, equals, value = text.partition("=")
        override = _Override(text, key, value if equals else None)
        if not equals and not key.startswith("~"):
            before = overrides[position - 1] if position else ""
            # A shell cuts at a space: what was meant as one value comes as two arguments.
            hint = f"; if it belongs to the value before it, type {typed(f'{before} {text}')}" if "=" in before else ""
            raise FigleafError(f"{text}: expected key=value{hint}")
        if override.name not in known and not _is_free(override.name, known):
            near = difflib.get_close_matches(override.name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(sorted(known))}"
            raise FigleafError(f"{text}: unknown key{hint}")
        found.append(override)
    return found


def _readable(override: _Override, schema: type) -> str:
    """The override, quoted where a text can only have been meant as it stands: `run=1234e567`, `name=größe`."""
    value = override.value
    if value is None or _kind(schema, override.name) != "text" or _MEANS_SOMETHING.search(value):
        return override.text
    if _NUMBER.fullmatch(value) or not _READ.fullmatch(value):
        return f"{override.key}={_quoted(value)}"
    return override.text


def _parsed(text: str, override: _Override, schema: type, *, sweeps: bool = False) -> Any:
    """Hydra's reading of `text`; a `FigleafError` that names `override` when it has none."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides([text])[0]
    except HydraException as error:
        raise FigleafError(_refusal(override, schema, sweeps=sweeps)) from error


def _require_one_value(text: str, override: _Override, schema: type) -> None:
    """Refuse a sweep, and what is no text or no list of names where that is expected."""
    parsed = _parsed(text, override, schema)
    if override.value is None:
        return
    if parsed.is_sweep_override():
        raise FigleafError(_refusal(override, schema))
    value, kind = parsed.value(), _kind(schema, override.name)
    is_text = [isinstance(item, str) or hasattr(item, "with_quotes") for item in _listed(value)]
    if (value is not None or kind == "group") and (
        (kind == "text" and (isinstance(value, list | dict) or not all(is_text)))
        or (kind == "group" and not isinstance(value, str))
        or (kind == "names" and not (isinstance(value, list) and all(is_text)))
    ):
        raise FigleafError(_refusal(override, schema))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refusal(override: _Override, schema: type, *, sweeps: bool = False) -> str:
    """What is expected instead of an override that cannot be read, and how it is typed."""
    kind, value = _kind(schema, override.name), override.value or ""
    if kind == "names":
        example = typed(f"{override.key}=[{','.join(_names(value))}]")
        return f"{override.text}: expected a list of names such as [a,b] (quote numbers); type {example}"
    if kind == "text":
        # In a grid commas part the values, so each is quoted for itself.
        parts = [_quoted(part.strip()) for part in value.split(",")] if sweeps else [_quoted(_unquoted(value))]
        example = typed(f"{override.key}={','.join(parts)}")
        return (
            f"{override.text}: expected a text, in quotes when it holds quotes, commas, brackets or equals signs; "
            f"type {example}"
        )
    if "," in value:
        return f"{override.text}: expected one value; `figleaf train -m` trains with each of several"
    return f"{override.text}: cannot be read; expected {override.name}=" + ("NAME" if kind == "group" else "VALUE")


def _names(value: str) -> list[str]:
    """The names that somebody may have meant by a list, each as it is written in one."""
    names = (_unquoted(name.strip()) for name in value.strip().removeprefix("[").removesuffix("]").split(","))
    return [name if _PLAIN_NAME.fullmatch(name) else _quoted(name) for name in names if name]


def _literal(value: Any, *, in_list: bool = False) -> str:
    """`value` as the grammar writes it; a text stands without quotes where it is read as itself."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_literal(item, in_list=True) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_literal(item, in_list=True)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    return value if _PLAIN_NAME.fullmatch(value) or (not in_list and _PLAIN_PATH.fullmatch(value)) else _quoted(value)


def _unquoted(value: str) -> str:
    """Without the quotes around it, of which the second may have been forgotten."""
    quote = value[:1] if value.startswith(_QUOTES) and (value.endswith(value[0]) or value.count(value[0]) == 1) else ""
    return value.removeprefix(quote).removesuffix(quote)


def _quoted(value: str) -> str:
    """`value` in quotes, so that Hydra reads it back literally, but for complete interpolations `${...}`."""
    from hydra.core.override_parser.types import Quote, QuotedString

    # The other kind than that which `typed` puts around the whole argument.
    double = _NOT_IN_DOUBLE_QUOTES.search(value) and "'" not in value
    escaped = _OPEN_INTERPOLATION.sub(r"\\${", value)
    return str(QuotedString(escaped, Quote.double if double else Quote.single).with_quotes())


def typed(argument: str) -> str:
    """The argument as it is typed in a POSIX shell, in double quotes where single ones would be hard to read."""
    if "'" not in argument or _NOT_IN_DOUBLE_QUOTES.search(argument):
        return shlex.quote(argument)
    return f'"{argument}"'


def _kind(schema: type, name: str) -> str:
    """What the key `name` of `schema` takes: "text", "names" (a list of texts), "group" or "other"."""
    head, _, rest = name.partition(".")
    hint = typing.get_type_hints(schema).get(head)
    if groups := groups_of(hint):
        if not rest:
            return "group"
        return next((_kind(group, rest) for group in groups if rest.partition(".")[0] in _fields(group)), "other")
    kinds: tuple[Any, ...] = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    allowed = set(kinds) - {type(None)}
    return {frozenset({str}): "text", frozenset({list[str]}): "names"}.get(frozenset(allowed), "other")


def _keys(schema: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(schema)
    keys: list[str] = []
    for f in dataclasses.fields(schema):
        hint = hints[f.name]
        keys.append(f"{prefix}{f.name}")
        for group in groups_of(hint):
            keys += [key for key in _keys(group, f"{prefix}{f.name}.") if key not in keys]
        if typing.get_origin(hint) is dict:
            keys.append(f"{prefix}{f.name}.{_ANY}")
    return keys


def _fields(group: type) -> set[str]:
    return {f.name for f in dataclasses.fields(group)}


def _is_free(name: str, known: Sequence[str]) -> bool:
    """Whether the key is one of a mapping that may hold any: what reads it knows which mean something."""
    head, _, last = name.rpartition(".")
    return bool(last) and f"{head}.{_ANY}" in known
