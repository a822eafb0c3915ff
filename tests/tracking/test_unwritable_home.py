"""A home that cannot be written is named with the way out, by every command and whatever the reason; no traceback."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from figleaf.cli import main
from figleaf.errors import FigleafError
from figleaf.tracking.find import runs
from figleaf.tracking.reap import reap
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store, first_line

TRAIN = ["train", "data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0", "trainer.threads=1"]
COMMANDS = [TRAIN, ["study", "run", "demo"], ["study", "status", "demo"], ["runs", "list"], ["runs", "reap"], ["ui"]]
# As root nothing is read-only: the commands are run as nobody, who may read everything.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
AS_NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
READ_ONLY = (
    "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)\n"
    "(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: INSERT ...]"
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/figleaf"])
def test_a_home_that_cannot_be_made_is_named(
    command: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.touch()
    home = {"a file": file, "below a file": file / "home"}.get(place, Path(place))
    if not home.is_relative_to(tmp_path) and not home.parent.is_dir():
        pytest.skip("needs Linux's /proc, where nobody can make a folder")
    monkeypatch.setenv("FIGLEAF_HOME", str(home))
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"error: cannot write {home}" in error
    assert ("FIGLEAF_HOME" if place == "/proc/figleaf" else "a file stands where a folder is needed") in error


@pytest.fixture
def place_for_all() -> Iterator[Path]:
    """A folder that every user may enter; pytest's are their owner's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for found in folder.rglob("*"):
        if found.is_dir():
            found.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_a_home_of_another_user_is_named(command: list[str], place_for_all: Path, blank_database: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv to be another user than root")
    absent, present = place_for_all / "others" / "absent", place_for_all / "present"
    present.mkdir()
    shutil.copy(blank_database, present / "mlflow.db")
    absent.parent.mkdir(mode=0o555)
    present.chmod(0o555)
    for home in (absent, present):
        done = subprocess.run(
            [*(AS_NOBODY if os.geteuid() == 0 else []), sys.executable, "-m", "figleaf.cli", *command],
            env={**os.environ, "FIGLEAF_HOME": str(home), "MPLCONFIGDIR": str(place_for_all)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert f"error: cannot write {home}" in done.stderr
        assert "no permission to write there" in done.stderr
        assert "FIGLEAF_HOME" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def unwritable(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The test's store, whose database may be read only."""

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException(READ_ONLY)

    for call in ("create_run", "set_terminated", "set_tag", "log_batch"):
        monkeypatch.setattr(type(store.client), call, refuse)
    return store


def test_a_database_that_may_only_be_read_is_named_by_what_writes(
    start: Callable[..., TrackedRun], store: Store, request: pytest.FixtureRequest
) -> None:
    store.client.create_run(
        store.experiment("figleaf"), tags={"figleaf.heartbeat": '{"time": 0, "host": "x", "pid": 1}'}
    )
    request.getfixturevalue("unwritable")
    assert len(runs(store)) == 1
    for write in (start, lambda: reap(store)):
        with pytest.raises(FigleafError, match=r"tracking\.uri=.*mlflow\.db: .*attempt to write a readonly database"):
            write()


def test_a_tracker_that_fails_to_answer_is_named_by_what_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("disk I/O error")

    store.experiment("figleaf")
    monkeypatch.setattr(type(store.client), "search_runs", fail)
    with pytest.raises(FigleafError, match=r"tracking\.uri=.*mlflow\.db: disk I/O error"):
        runs(store)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (READ_ONLY, "(sqlite3.OperationalError) attempt to write a readonly database"),
        ("\n a\nb", " a"),
        ("", "ValueError"),
    ],
)
def test_the_first_line_is_the_first_that_says_something(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line
