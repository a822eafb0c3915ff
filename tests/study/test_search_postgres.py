"""Drivers that share PostgreSQL: as many trials as are wanted, those of the dead taken over, its loss explained."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_search import kill_a_driver, made_trials, run_drivers
from optuna.trial import TrialState
from sqlalchemy import text

from figleaf.errors import FigleafError
from figleaf.study.search.storage import STALE_S, open_storage
from figleaf.tracking import postgres

pytest.importorskip("psycopg2", reason="pip install 'figleaf[server]'")
try:
    postgres._programs(Path("none"))
except FigleafError as missing:
    pytest.skip(str(missing), allow_module_level=True)
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def where() -> Iterator[str]:
    """The address of a database of its own."""
    folder = Path(tempfile.mkdtemp(prefix="figleaf-test-"))
    folder.chmod(0o755)
    cluster = postgres.Cluster.open(folder)
    running = cluster.start(folder / "postgres.log")
    try:
        yield cluster.uri
    finally:
        running.stop()
        cluster.remove_socket_folder()
        shutil.rmtree(folder)


def test_drivers_that_begin_at_once_run_so_many_trials_and_no_more(tmp_path: Path, where: str) -> None:
    run_drivers(tmp_path, where, 3, wanted=20)
    with open_storage(where) as storage:
        trials = made_trials(tmp_path, storage, 20)
        assert trials.counts() == {TrialState.COMPLETE: 20}
        assert [trial.number for trial in trials.counted()] == list(range(20))


def test_the_trials_of_the_dead_are_queued_again(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_a_driver(tmp_path, where, "work")
    with open_storage(where) as storage:
        here, away = (made_trials(tmp_path, storage, 1) for _ in range(2))
        (dead,) = here.study.get_trials()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "another-host")
            on_this_machine = away.next()
            assert on_this_machine is None, "of another machine's it is not known"
        again = here.next()
        assert again is not None
        assert again.params == dead.params
        here._heartbeats.running.clear()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "another-host")
            assert away.next() is None
            silence = f"UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '{STALE_S + 30} s'"
            with storage.optuna.engine.begin() as connection:  # type: ignore[attr-defined]
                connection.execute(text(silence))
            taken_over = away.next()
            assert taken_over is not None
        assert taken_over.params == dead.params
        assert here.report(again, 2, 0.5) is None
        assert away.tell(taken_over, TrialState.COMPLETE, 0.8)
        assert [trial.value for trial in here.counted()] == [0.8]


def test_a_database_that_goes_away_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="figleaf-test-"))
    folder.chmod(0o755)
    cluster = postgres.Cluster.open(folder)
    running = cluster.start(folder / "postgres.log")

    def lose_it() -> None:
        with open_storage(cluster.uri) as storage:
            trials = made_trials(tmp_path, storage, 3)
            assert trials.next() is not None
            running.stop()
            trials.next()

    try:
        with pytest.raises(FigleafError, match=r"--storage postgresql.*start the database") as told:
            lose_it()
        assert "same command again" in str(told.value)
        running = cluster.start(folder / "postgres.log")
        with open_storage(cluster.uri) as storage:
            assert made_trials(tmp_path, storage, 3).counts().total() == 1
    finally:
        running.stop()
        cluster.remove_socket_folder()
        shutil.rmtree(folder)
