import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store, open_store


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared database without runs; preparing one takes a second, copying it none."""
    home = tmp_path_factory.mktemp("blank")
    open_store(None, home)
    connection = sqlite3.connect(home / "mlflow.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return home / "mlflow.db"


@pytest.fixture
def new_store(blank_database: Path, tmp_path: Path) -> Callable[[str], Store]:
    """Opens a store of its own in a named home below the test's folder."""

    def make(name: str) -> Store:
        home = tmp_path / name
        home.mkdir()
        shutil.copy(blank_database, home / "mlflow.db")
        return open_store(None, home)

    return make


@pytest.fixture
def store(new_store: Callable[[str], Store]) -> Iterator[Store]:
    return new_store("home")


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Callable[..., TrackedRun]:
    """Starts a run in the test's store with a few defaults."""

    def begin(**changes: Any) -> TrackedRun:
        arguments: dict[str, Any] = {
            "experiment": "figleaf",
            "name": "vgg11-s0",
            "folder": tmp_path / "run",
            "params": {"model": {"depth": 11}},
            "tags": {"figleaf.study": "first"},
            "exit_wait_s": 5.0,
        }
        return TrackedRun.start(changes.pop("store", store), **{**arguments, **changes})

    return begin
