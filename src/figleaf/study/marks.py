"""A place in a Markdown page that belongs to a table: between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from pathlib import Path

from figleaf.errors import FigleafError
from figleaf.files import write_text


def require_marks(file: Path, name: str) -> None:
    """Raises `FigleafError` unless `file` can be read and holds the marks of `name`, each once, in this order."""
    _around(file, name)


def put_between_marks(file: Path, name: str, text: str) -> None:
    """Replace what stands in `file` between the marks of `name`; raises as `require_marks` does."""
    before, after = _around(file, name)
    write_text(file, f"{before}\n\n{text.strip()}\n\n{after}")


def _around(file: Path, name: str) -> tuple[str, str]:
    """What stands before and after the place, the marks included."""
    begin, end = f"<!-- {name}: begin", f"<!-- {name}: end -->"
    try:
        page = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise FigleafError(
            f"{file}: cannot be read ({reason}); expected a page with `{begin} -->` and `{end}`"
        ) from error
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise FigleafError(f"{file}: expected the lines `{begin} -->` and `{end}`, each once, in this order")
    # Behind the name there may be words of the page's author.
    head_end = page.find("-->", page.index(begin)) + len("-->")
    return page[:head_end], page[page.index(end) :]
