"""The modules of figleaf that a registered model needs, copied beside it under a name of their own.

A served model must answer as on the day it was registered, on a machine with another figleaf or with none. Requiring
the installed package would bind it to whatever is there. Shipping a part of the package under its own name would hide
the installed one from every process that loads the model. So the copies are a package that is called by the hash of
its content, and the imports in them say so: two models of different versions of figleaf can stand in one process.
"""

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(rf"^(\s*(?:from|import) ){_PACKAGE.name}\b", re.MULTILINE)


@dataclass(frozen=True)
class Shipped:
    """`package`: the folder with the copies, to be on the path as it is called. `entry`: the file that is run."""

    package: Path
    entry: Path


def ship(module: str, folder: Path) -> Shipped:
    """Copy `module` (such as figleaf.serve.page) and every module of figleaf that it imports, directly or not.

    The package stands in `folder` afterwards, and beside it the copy of `module` that is to be run.
    """
    texts = {path: (_PACKAGE / path).read_text(encoding="utf-8") for path in needed(module)}
    content = "".join(f"{path}\n{text}\n" for path, text in texts.items())
    name = f"{_PACKAGE.name}_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    for path, text in texts.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(renamed(text, name), encoding="utf-8")
    entry = folder / f"{module.rpartition('.')[2]}.py"
    entry.write_text(renamed(texts[_file_of(module)], name), encoding="utf-8")
    return Shipped(folder / name, entry)


def renamed(text: str, name: str) -> str:
    """The source with every import of figleaf turned into one of the package `name`."""
    return _IMPORT.sub(rf"\g<1>{name}", text)


def needed(module: str) -> list[str]:
    """The files, as POSIX paths in the package, of `module` and of every module of figleaf behind it, by name."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file in found:
            continue
        found.add(file)
        waiting += [name.rpartition(".")[0]] * ("." in name)  # the packages around it
        waiting += _imported((_PACKAGE / file).read_text(encoding="utf-8"))
    return sorted(found)


def _imported(text: str) -> list[str]:
    """Modules of figleaf that a source imports, inside functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = [name for name in names if name.split(".")[0] == _PACKAGE.name]
    return [name for name in ours if _is_module(name)]


def _is_module(name: str) -> bool:
    """Whether the name is a module's, and not of something in one."""
    place = _PACKAGE.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _file_of(name: str) -> str:
    path = "/".join(name.split(".")[1:])
    return f"{path}.py" if path and (_PACKAGE / f"{path}.py").is_file() else f"{path}/__init__.py".lstrip("/")
