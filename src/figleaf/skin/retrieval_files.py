"""An image index as a folder: codes and fitted state in safetensors, samples in Parquet, faiss's graph, and a JSON file
that names them all with their SHA-256. No pickle.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from figleaf import __version__
from figleaf.errors import FigleafError
from figleaf.files import explained, sha256_file, write_text
from figleaf.skin.codes import Code
from figleaf.skin.neighbours import NearestGraph
from figleaf.skin.retrieval import COLUMNS, FEATURES, ImageIndex

FORMAT, FORMAT_VERSION = "figleaf image index", 1
_NOTE, _CODES, _STATE, _TABLE, _GRAPH = (
    "index.json",
    "codes.safetensors",
    "code.safetensors",
    "table.parquet",
    "graph.faiss",
)
_AGAIN = "build it again with `figleaf similar --build`"


def save_index(index: ImageIndex, folder: Path) -> Path:
    """Write the index to `folder`: whole or not at all. An index that stands there is replaced.

    Raises `FigleafError` where something else stands.
    """
    require_place(folder)
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(index, new)
            new.chmod(0o777 & ~_umask_of(new))
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
                folder.replace(old)
                new.replace(folder)
                shutil.rmtree(old, ignore_errors=True)
            else:
                new.replace(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def require_place(folder: Path) -> None:
    """Raises `FigleafError` unless an index can be written to `folder`: nothing is there, or one that may go."""
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and (not any(folder.iterdir()) or _says_index(folder)):
        return
    raise FigleafError(f"{folder}: holds something else than an image index and would be replaced; name another folder")


def _write(index: ImageIndex, folder: Path) -> None:
    save_file({"codes": index.codes}, folder / _CODES)
    state = {name: np.ascontiguousarray(value) for name, value in index.code.state().items()}
    save_file(state, folder / _STATE)
    index.table.to_parquet(folder / _TABLE, index=False)
    NearestGraph.build(index.codes).save(folder / _GRAPH)
    names = (_CODES, _STATE, _TABLE, _GRAPH)
    said = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "figleaf_version": __version__,
        "features": index.features,
        "parameters": _parameters(index.code),
        "pictures": len(index),
        "dimensions": int(index.codes.shape[1]),
        "root": str(index.root.absolute()),
        "classes": list(index.classes),
        "data": {"name": index.data_name, "hash": index.data_hash},
        "files": {
            name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size} for name in names
        },
    }
    write_text(folder / _NOTE, json.dumps({**said, "sha256": _digest(said)}, indent=2) + "\n")


def load_index(folder: Path) -> ImageIndex:
    """The index in `folder`, every file compared with its hash; the graph when it is first searched.

    Raises `FigleafError` when the folder is no index, damaged, or of a later format.
    """
    said = _read_note(folder)
    for name in (_CODES, _STATE, _TABLE):
        _require_whole(folder, name, said)
    try:
        codes = load_file(folder / _CODES)["codes"]
        table = pd.read_parquet(folder / _TABLE)
        code = FEATURES[said["features"]](**said["parameters"]).restore(load_file(folder / _STATE))
        whole = (
            codes.shape == (said["pictures"], said["dimensions"])
            and codes.dtype == np.float32
            and bool(np.isfinite(codes).all())
            and len(table) == len(codes)
            and set(COLUMNS) <= set(table.columns)
        )
    # The hashes hold: these files were written so, by another version or by somebody else, and anything may be missing.
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise FigleafError(
            f"{folder}: an index that this figleaf cannot read ({_one_line(error)}); {_AGAIN}"
        ) from error
    if not whole:
        raise FigleafError(f"{folder}: its codes and its table do not belong together; {_AGAIN}")
    _require_inside(table, folder)

    def graph() -> NearestGraph:
        _require_whole(folder, _GRAPH, said)
        return NearestGraph.load(folder / _GRAPH, (codes.shape[0], codes.shape[1]))

    return ImageIndex(
        features=said["features"],
        code=code,
        codes=codes,
        table=table,
        root=Path(said["root"]),
        classes=tuple(said["classes"]),
        data_name=said["data"]["name"],
        data_hash=said["data"]["hash"],
        load_graph=graph,
    )


def _read_note(folder: Path) -> dict[str, Any]:
    """What index.json says, checked."""
    if not folder.is_dir():
        kind = "a file, not a folder" if folder.exists() else "no such folder"
        raise FigleafError(f"{folder}: {kind}; `figleaf similar --build {folder} data=...` makes an image index")
    note = folder / _NOTE
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FigleafError(
            f"{folder}: no image index: it has no {_NOTE}; `figleaf similar --build` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise FigleafError(f"{note}: cannot be read ({_one_line(error)}); {_AGAIN}") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise FigleafError(
            f"{folder}: no image index: its {_NOTE} is of another kind; `figleaf similar --build` makes one"
        )
    version = said.get("format_version")
    if version != FORMAT_VERSION:
        raise FigleafError(
            f"{folder}: an image index of format {version}, this figleaf reads {FORMAT_VERSION}; {_AGAIN}"
        )
    if said.pop("sha256", None) != _digest(said):
        raise FigleafError(f"{note}: damaged or edited: it is not what its own hash says; {_AGAIN}")
    if said.get("features") not in FEATURES:
        raise FigleafError(f"{folder}: features {said.get('features')!r}, this figleaf knows {', '.join(FEATURES)}")
    return said


def _require_whole(folder: Path, name: str, said: dict[str, Any]) -> None:
    """Raises `FigleafError` unless the file is there with the bytes that were written."""
    path = folder / name
    expected = said.get("files", {}).get(name, {})
    try:
        good = path.stat().st_size == expected.get("bytes") and sha256_file(path) == expected.get("sha256")
    except OSError as error:
        raise FigleafError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from error
    if not good:
        raise FigleafError(f"{path}: damaged: not the {expected.get('bytes')} bytes that {_NOTE} speaks of; {_AGAIN}")


def _require_inside(table: pd.DataFrame, folder: Path) -> None:
    """Raises `FigleafError` when a path leaves the root: an index of somebody else's must not open any file."""
    for path in table["path"].astype(str):
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise FigleafError(f"{folder}: path {path!r} leaves the folder of the pictures; this index is not ours")


def _says_index(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _NOTE).read_text(encoding="utf-8")).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def _parameters(code: Code) -> dict[str, Any]:
    parameters: dict[str, Any] = code.get_params(deep=False)
    return parameters


def _digest(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _umask_of(made: Path) -> int:
    """What this process takes from the permissions of new folders, seen on one."""
    probe = made / ".probe"
    probe.mkdir()
    mode = probe.stat().st_mode & 0o777
    probe.rmdir()
    return 0o777 & ~mode


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
