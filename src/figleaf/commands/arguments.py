"""What the commands' arguments have in common."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from figleaf.config import ROOTS, DataConfig, choices, keys_with_defaults


def parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser whose help keeps its line breaks."""
    return argparse.ArgumentParser(
        prog=f"figleaf {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def with_overrides(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser that takes `key=value ...` for `conf/<command>.yaml`, and `--print-config`.

    Its help lists the presets of each group and every key with its default.
    """
    presets = "".join(f"  {group}={{{','.join(names)}}}\n" for group, names in choices(ROOTS[command]).items())
    keys = "".join(f"  {key}={default}\n" for key, default in keys_with_defaults(ROOTS[command]).items())
    known = parser(
        command, description, f"{epilog}\npresets (files of conf/):\n{presets}\nkeys:\n{keys}".replace("%", "%%")
    )
    known.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the configuration")
    known.add_argument("--print-config", action="store_true", help="print the resolved configuration as JSON and stop")
    return known


def parse_mixed(known: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse, with `key=value` allowed behind options too, which argparse alone refuses."""
    options, rest = known.parse_known_args(arguments)
    if unknown := [text for text in rest if text.startswith("-") or "=" not in text]:
        known.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.overrides = [*options.overrides, *rest]
    return options


def require_manifest(data: DataConfig) -> None:
    """Refuse a manifest that is not there, or is something else, at once: what reads it takes seconds to import."""
    if data.source == "manifest":
        from figleaf.data.manifest_file import manifest_file

        manifest_file(data.manifest)


def file_name(text: str) -> str:
    """A run's or study's name as part of a file's: letters, digits, _, . and - stay, all else becomes -."""
    return re.sub(r"[^\w.-]+", "-", text)


def print_json(value: Any) -> None:
    """One JSON object on standard output, indented where a person reads it, else on one line."""
    text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, allow_nan=False)
    if not text.isascii():  # a file's name may be no UTF-8, and standard output another encoding
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False)
    print(text)


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Rows with the same keys on standard output: a table where a person looks, CSV in a pipe; nothing of no rows."""
    if not rows:
        return
    if not sys.stdout.isatty():
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(Text(str(value)[:40]) for value in row.values()))
    Console().print(table)


def say(text: str) -> None:
    """One line for the person at the terminal; standard output stays clean."""
    print(text, file=sys.stderr, flush=True)
