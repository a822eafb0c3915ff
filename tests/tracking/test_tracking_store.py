import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import requests
from watching import exit_code, history, in_child, status

from figleaf.errors import FigleafError
from figleaf.tracking import store as tracking_store
from figleaf.tracking.find import find_run
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store, open_store, ui_command

READ_ONLY = Path("/sys")  # where even root cannot make a folder


def opened_and_used(home: Path, name: str, metrics: int = 30) -> None:
    """What each of several processes does at once: open the store, track a run of 30 metrics."""
    store = open_store(None, home)
    with TrackedRun.start(
        store, experiment="figleaf", name=name, folder=home / "runs" / name, params={"name": name}, tags={}
    ) as run:
        for step in range(metrics):
            run.journal.append({"loss": step, "lr": 0.5}, step)
            if step % 3 == 0:
                run.journal.commit()


def assert_six_whole_runs(home: Path) -> None:
    store = open_store(None, home)
    (experiment_id,) = store.experiment_ids()
    found = store.client.search_runs([experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [(f"r{i}", "FINISHED") for i in range(6)]
    for run in found:
        assert history(store, run.info.run_id, "loss") == [(step, step) for step in range(30)]


@pytest.mark.usefixtures("blank_database")  # it imports in this process what each child would have to
def test_six_processes_open_a_fresh_store_at_once_and_all_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, preparations = tracking_store._create_database, tmp_path / "preparations"
    preparations.mkdir()

    def counted(path: Path, artifact_root: Path) -> None:
        (preparations / str(os.getpid())).touch()
        prepare(path, artifact_root)

    monkeypatch.setattr(tracking_store, "_create_database", counted)

    def begin(index: int) -> None:
        time.sleep(0.1 * index)  # so that some come upon the work of others half done, or just done
        opened_and_used(tmp_path, f"r{index}")

    children = [in_child(partial(begin, index)) for index in range(6)]
    assert [exit_code(child) for child in children] == [0] * 6
    assert len(list(preparations.iterdir())) == 1
    assert_six_whole_runs(tmp_path)


@pytest.mark.slow
def test_six_interpreters_started_from_nothing_do_so_too(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from test_tracking_store import opened_and_used as use; "
    program += "use(Path(sys.argv[1]), sys.argv[2])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), f"r{index}"], env=environment)
        for index in range(6)
    ]
    assert [process.wait(120) for process in processes] == [0] * 6
    assert_six_whole_runs(tmp_path)


def test_killed_while_preparing_the_database_the_next_one_prepares_it(tmp_path: Path) -> None:
    child = in_child(lambda: open_store(None, tmp_path))
    while not list(tmp_path.glob(".mlflow-*")):
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert open_store(None, tmp_path).experiment("figleaf") == "1"


def test_the_default_store_is_a_database_with_absolute_artifact_folders(
    new_store: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = new_store("home")
    monkeypatch.chdir(tmp_path)
    store = open_store(None, Path("home"))
    assert store.uri == made.uri == f"sqlite:///{tmp_path}/home/mlflow.db"
    location = store.client.get_experiment(store.experiment("figleaf")).artifact_location
    assert location == (tmp_path / "home" / "artifacts" / "figleaf").as_uri()
    monkeypatch.chdir("/")
    assert not list(Path("/").glob("mlruns*"))


def test_a_relative_database_path_means_the_same_file_after_a_change_of_folder(
    blank_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.db").write_bytes(blank_database.read_bytes())
    store = open_store("sqlite:///own.db", tmp_path / "home")
    assert store.uri == f"sqlite:///{tmp_path}/own.db"
    assert ui_command(store)[-3] == store.uri


@pytest.mark.parametrize("name", ["a b", "ü#1", "100%", "it's"])
def test_a_home_may_have_an_odd_name(blank_database: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    (home / "mlflow.db").write_bytes(blank_database.read_bytes())
    store = open_store(None, home)
    opened_and_used(home, "odd", metrics=2)
    (run,) = store.client.search_runs(store.experiment_ids())
    assert run.info.status == "FINISHED"
    assert {path.name for path in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_a_home_whose_name_a_database_uri_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FigleafError, match="FIGLEAF_HOME elsewhere"):
        open_store(None, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    store.experiment("figleaf")
    writer = sqlite3.connect(store.home / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("UPDATE experiments SET last_update_time = 0")
    began = time.monotonic()
    assert len(store.client.search_experiments()) == 2
    assert time.monotonic() - began < 5
    writer.execute("ROLLBACK")


def test_an_experiment_deleted_in_the_tracker_is_named_with_the_way_out(store: Store) -> None:
    store.client.delete_experiment(store.experiment("old"))
    with pytest.raises(FigleafError, match="mlflow experiments restore"):
        store.experiment("old")


def test_only_experiments_of_the_project_count_as_its_own(store: Store) -> None:
    store.client.create_experiment("made by someone else")
    adopted = store.client.create_experiment("made in the pages, used here")
    own = store.experiment("figleaf")
    assert store.experiment("made in the pages, used here") == adopted
    assert sorted(store.experiment_ids()) == sorted([own, adopted])


@pytest.mark.parametrize("uri", ["./mlruns", "file:///mlruns", "sqlite://", "sqlite:///:memory:"])
def test_stores_that_lose_runs_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(FigleafError, match=r"tracking\.uri="):
        open_store(uri, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_database_of_another_mlflow_version_is_refused_with_the_command_that_upgrades_it(
    blank_database: Path, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(blank_database.read_bytes())
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.commit()
    connection.close()
    with pytest.raises(FigleafError, match="mlflow db upgrade"):
        open_store(None, tmp_path)


@pytest.mark.skipif(not READ_ONLY.exists(), reason="needs a read-only file system")
def test_a_read_only_home_is_named_with_the_way_out() -> None:
    with pytest.raises(FigleafError, match=r"/sys/figleaf/mlflow\.db: .*FIGLEAF_HOME"):
        open_store(None, READ_ONLY / "figleaf")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("uri", ["http://user:secret@127.0.0.1:{port}", "postgresql://user:secret@127.0.0.1:{port}/db"])
def test_a_dead_server_is_noticed_quickly_and_named_without_its_password(tmp_path: Path, uri: str) -> None:
    began = time.monotonic()
    with pytest.raises(FigleafError, match=r"tracking\.uri=.*\*\*\*@127.*does not answer") as raised:
        open_store(uri.format(port=unused_port()), tmp_path)
    assert time.monotonic() - began < 10
    assert "secret" not in str(raised.value)


@pytest.mark.slow
def test_a_silent_server_is_noticed_within_ten_seconds(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        with pytest.raises(FigleafError, match="does not answer"):
            open_store(f"http://127.0.0.1:{deaf.getsockname()[1]}", tmp_path)
    assert time.monotonic() - began < 10


def serve(command: list[str], port: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=1)
            return process
        except requests.RequestException:
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
    raise TimeoutError("the server did not start")


@pytest.mark.slow
def test_a_run_outlives_its_server(store: Store, tmp_path: Path) -> None:
    port = unused_port()
    command = [*ui_command(store, port=port), "--artifacts-destination", str(tmp_path / "served")]
    command[command.index("--default-artifact-root") + 1] = "mlflow-artifacts:/"
    server = serve(command, port)
    try:
        remote = open_store(f"http://127.0.0.1:{port}", tmp_path / "client")
        figure = tmp_path / "odd name ü.txt"
        figure.write_text("figure")
        with TrackedRun.start(
            remote, experiment="served", name="s", folder=tmp_path / "run", params={"a": 1}, tags={}, exit_wait_s=60
        ) as run:
            for step in range(40):
                run.journal.append({"loss": 1 / (step + 1)}, step)
                run.journal.commit()
                if step == 10:
                    server.terminate()
                    server.wait(30)
                if step == 20:
                    run.set_tag("figleaf.selection", "0.9")
                    run.log_artifact(figure, "figures")
            server = serve(command, port)
        assert history(remote, run.run_id, "loss") == [(step, 1 / (step + 1)) for step in range(40)]
        assert status(remote, run.run_id) == "FINISHED"
        found = find_run(remote, "latest")
        assert found.tags["figleaf.selection"] == "0.9"
        assert found.artifact(f"figures/{figure.name}").read_text() == "figure"
        with pytest.raises(FigleafError, match="open it in a browser"):
            ui_command(remote)
    finally:
        server.terminate()
        server.wait(30)


def test_the_pages_are_served_on_the_projects_own_store_with_one_worker(store: Store) -> None:
    command = ui_command(store, port=5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options == {
        "--workers": "1",
        "--host": "127.0.0.1",
        "--port": "5001",
        "--backend-store-uri": store.uri,
        "--default-artifact-root": (store.home / "artifacts").as_uri(),
    }
