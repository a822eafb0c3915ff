"""Markdown for the cards: tables, and names that are shown as they are."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """`text` on one line so that Markdown shows it as it is: it makes no link, tag, emphasis, code or table border."""
    # Only printable characters: a name must not end the line or turn the direction of writing.
    line = "".join(character if character.isprintable() else " " for character in text)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]|~:@])", r"\\\1", line)
    return re.sub(r"(?i)\bwww\.", r"www\.", line)  # some renderers make links of bare host names


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are Markdown, so names in them are escaped already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
