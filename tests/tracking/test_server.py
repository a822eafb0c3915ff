"""The team's server: its data outlives it, nothing else does, nobody else gets in, and no metric is lost with it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from team_server import TeamServer
from watching import exit_code, history, in_child

from figleaf.cli import main
from figleaf.errors import FigleafError
from figleaf.study.records import load_records
from figleaf.tracking import postgres
from figleaf.tracking.find import find_run, runs
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.server import address, require_free
from figleaf.tracking.store import Store, open_store
from figleaf.tracking.transfer import export_runs, import_runs

psycopg2 = pytest.importorskip("psycopg2", reason="pip install 'figleaf[server]'")
try:
    postgres._programs(Path("none"))
except FigleafError as missing:
    pytest.skip(str(missing), allow_module_level=True)

heavy = [pytest.mark.server, pytest.mark.slow]
WRITERS, STEPS = 8, 60
TRAIN = ["data=digits", "model=debug", "optimizer.batch_size=16", "trainer.intervals=0", "trainer.threads=1"]
TRAIN += ["trainer.checkpoint_seconds=0", "trainer.log_every_steps=1", "tracking.delivery_seconds=2"]


def until(holds: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    """One for all tests; each leaves it running."""
    made = TeamServer()
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.home)


def test_missing_postgresql_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["server", "--port", "0"]) == 2
    assert "apt-get install postgresql" in capsys.readouterr().err


def test_data_of_another_version_is_named_with_the_package_that_reads_it(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "server" / "postgres").mkdir(parents=True)
    (home / "server" / "postgres" / "PG_VERSION").write_text("9\n")
    assert main(["server", "--port", "0"]) == 2
    assert "apt-get install postgresql-9" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_taken_port_is_named(host: str) -> None:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FigleafError, match=f"port={port}: .*--port"):
            require_free(host, port)
    require_free(host, port)


def test_address_is_one_that_this_machine_can_call() -> None:
    assert address("0.0.0.0", 5000) == "http://127.0.0.1:5000"
    assert address("::1", 5000) == "http://[::1]:5000"
    assert address("tracker.lab", 80) == "http://tracker.lab:80"


def test_containers_publish_on_this_machine_only_and_hold_no_secret() -> None:
    text = (Path(__file__).parents[2] / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert [port for service in services.values() for port in service.get("ports", [])] == ["127.0.0.1:5000:5000"]
    asked = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert asked == services["mlflow"]["environment"]["PGPASSWORD"]
    assert asked.startswith("${FIGLEAF_DB_PASSWORD:?"), "without a password from outside it must not start"


class TestServer:
    """What needs a running one."""

    pytestmark = heavy

    def test_database_takes_its_own_role_with_its_password_through_its_socket_only(self, server: TeamServer) -> None:
        cluster = postgres.Cluster.open(server.home / "server")
        passfile = server.home / "server" / "pgpass"
        assert passfile.stat().st_mode & 0o777 == 0o600
        address: dict[str, Any] = {"host": str(cluster._socket_folder), "passfile": str(passfile)}
        psycopg2.connect(dbname="mlflow", user="mlflow", **address).close()
        password = passfile.read_text().strip().rpartition(":")[2]
        for refused in (
            {"dbname": "mlflow", "user": "mlflow", "host": address["host"], "password": "guessed"},
            {"dbname": "mlflow", "user": "postgres", "host": address["host"], "password": password},
            {"dbname": "postgres", "user": "mlflow", "host": address["host"], "password": password},
        ):
            with pytest.raises(psycopg2.OperationalError):
                psycopg2.connect(**refused)
        (held,) = server.parts("postgres")
        assert not held.net_connections("inet"), "PostgreSQL listens on a port"
        assert all(password not in " ".join(process.cmdline()) for process in server.parts())

    def test_second_one_on_the_same_data_is_refused_and_says_where_the_first_is(self, server: TeamServer) -> None:
        second = server.begin()
        said = second.communicate(timeout=60)[1]
        assert second.returncode == 2
        assert "runs already" in said
        assert server.url in said

    def test_runs_and_files_are_there_after_its_end_and_nothing_of_it_lives(self, server: TeamServer) -> None:
        store = server.store()
        file = server.home / "figure ü.txt"
        file.write_text("figure")
        with TrackedRun.start(
            store, experiment="kept", name="kept", folder=server.home / "kept", params={"a": 1}, tags={}
        ) as run:
            run.journal.append({"loss": 0.5, "diverged": float("nan")}, 0)
            run.log_artifact(file, "figures")
        code, said = server.stop()
        assert code == 0, said
        assert not server.parts()
        server.start()
        found = find_run(store, run.run_id)
        assert found.status == "FINISHED"
        assert found.history("loss") == [(0, 0.5)]
        assert found.artifact("figures/figure ü.txt").read_text() == "figure"
        assert found.artifact_uri.startswith("mlflow-artifacts:"), "files go through the server"

    def test_runs_made_offline_go_to_it_and_back_and_no_byte_differs(self, server: TeamServer, tmp_path: Path) -> None:
        offline, back = open_store(None, tmp_path / "offline"), open_store(None, tmp_path / "back")
        with TrackedRun.start(
            offline, experiment="moved", name="p", folder=tmp_path / "p", params={"a": 1}, tags={}
        ) as parent:
            parent.journal.append({"loss": float("inf"), "lr": float("nan")}, 3)
        with TrackedRun.start(
            offline,
            experiment="moved",
            name="c",
            folder=tmp_path / "c",
            params={},
            tags={},
            parent_run_id=parent.run_id,
        ) as child:
            for step in range(3000):  # more than goes into one call
                child.journal.append({"loss": step / 7}, step)
            child.log_artifact(tmp_path / "p" / "run.json", "odd ü 1/deep")
        export_runs(offline, tmp_path / "1")
        import_runs(server.store(), tmp_path / "1")
        there = [find_run(server.store(), name) for name in ("p", "c")]
        export_runs(server.store(), tmp_path / "2", there)
        import_runs(back, tmp_path / "2")
        export_runs(back, tmp_path / "3")
        first, second, third = (
            {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
            for name in ("1", "2", "3")
        )
        assert first == second == third

    def test_killed_one_leaves_no_process_and_starts_again_at_once(self, server: TeamServer) -> None:
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        server.start()  # while the first one's programs are still ending
        assert server.process is not None
        second = psutil.Process(server.process.pid)
        family = {second.pid} | {child.pid for child in second.children(recursive=True)}
        assert {process.pid for process in server.parts()} <= family

    @pytest.mark.parametrize("part", ["mlflow", "postgres"])
    def test_death_of_a_part_ends_it_with_a_word(self, server: TeamServer, part: str) -> None:
        server.signal(part, signal.SIGKILL)
        code, said = server.wait()
        assert code == 1
        assert f"{'MLflow' if part == 'mlflow' else 'PostgreSQL'} ended with code 137" in said
        assert not server.parts()
        server.start()


def journal(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal."""
    file = folder / "journal.jsonl"
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def assert_metrics_arrived(store: Store, folder: Path) -> dict[str, list[tuple[int, int, float]]]:
    """The run is finished, every row of its journal is in the tracker, once, with its time, and nothing else is."""
    run = find_run(store, json.loads((folder / "run.json").read_text())["run_id"])
    written: dict[str, list[tuple[int, int, float]]] = {}
    for line in journal(folder):
        for key, value in line["metrics"].items():
            written.setdefault(key, []).append((line["step"], line["time_ms"], float(value)))
    assert run.metrics == {key: max(rows)[2] for key, rows in written.items()}, "the last value of each"
    for key, rows in written.items():
        found = [(m.step, m.timestamp, m.value) for m in store.client.get_metric_history(run.run_id, key)]
        assert sorted(found) == sorted(rows), key
        assert len({step for step, *_ in found}) == len(found), f"{key}: a step twice"
    assert run.status == "FINISHED"
    return written


def assert_files_arrived(store: Store, folder: Path) -> None:
    run = find_run(store, json.loads((folder / "run.json").read_text())["run_id"])
    for name in ("predictions.parquet", "model/best.safetensors", "config.yaml", "figures/learning_curves.png"):
        local = folder / {"model/best.safetensors": "checkpoints/best.safetensors"}.get(name, name)
        assert run.artifact(name).read_bytes() == local.read_bytes(), name


class Training:
    """`figleaf train` as a process, in a home of its own, tracked by a server."""

    def __init__(self, server: TeamServer, home: Path, seed: int, epochs: int) -> None:
        self.server, self.home = server, home
        settings = [*TRAIN, f"trainer.epochs={epochs}", f"seed={seed}", f"tracking.uri={server.url}"]
        self.command = [sys.executable, "-m", "figleaf.cli", "train", *settings]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, "FIGLEAF_HOME": str(self.home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def folder(self) -> Path | None:
        return next((file.parent for file in self.home.glob("runs/*/run.json")), None)

    def lines(self) -> list[dict[str, Any]]:
        """The journal."""
        return [] if self.folder is None else journal(self.folder)

    def goes_on_for(self, steps: int) -> float:
        """Wait until the journal has grown by `steps` rows; the longest pause between two of them, in seconds."""
        before = len(self.lines())
        until(lambda: self.process.poll() is not None or len(self.lines()) >= before + steps)
        assert self.process.poll() is None, "it ended too soon to be watched"
        times = [line["time_ms"] for line in self.lines()[before - 1 :]]
        return max(b - a for a, b in pairwise(times)) / 1000

    def end(self) -> str:
        said = self.process.communicate(timeout=300)[1]
        assert self.process.returncode == 0, said
        return str(said)

    def sync(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "figleaf.cli", "runs", "sync", "--uri", self.server.url],
            env={**os.environ, "FIGLEAF_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def assert_all_arrived(self) -> None:
        """Every row of the journal is in the tracker, once, with its time; status and files, too."""
        assert self.folder is not None
        store = self.server.store()
        written = assert_metrics_arrived(store, self.folder)
        assert len(written["train/loss"]) > 200
        assert_files_arrived(store, self.folder)


class TestTrainingGoesOnWithoutTheServer:
    """Metrics wait in the journal, whichever part of the server is gone and however they come to it later."""

    pytestmark = heavy

    def test_mlflow_killed_and_back_after_the_end(self, server: TeamServer, tmp_path: Path) -> None:
        training = Training(server, tmp_path / "t", seed=1, epochs=4)
        until(lambda: len(training.lines()) > 30)
        server.signal("mlflow", signal.SIGKILL)
        server.wait()
        assert training.goes_on_for(50) < 10
        assert "`figleaf runs sync` delivers them" in training.end()
        server.start()
        training.sync()
        training.assert_all_arrived()

    def test_postgresql_killed_and_back_during_the_training(self, server: TeamServer, tmp_path: Path) -> None:
        training = Training(server, tmp_path / "t", seed=2, epochs=8)
        until(lambda: len(training.lines()) > 30)
        server.signal("postgres", signal.SIGKILL)
        assert training.goes_on_for(50) < 10
        server.wait()
        server.start()
        training.end()
        training.sync()  # where the end came before the last attempt of a delivery
        training.assert_all_arrived()

    def test_mlflow_hangs_and_the_training_dies_and_goes_on(self, server: TeamServer, tmp_path: Path) -> None:
        training = Training(server, tmp_path / "t", seed=3, epochs=4)
        until(lambda: len(training.lines()) > 30)
        server.signal("mlflow", signal.SIGSTOP)
        assert training.goes_on_for(100) < 10, "a step waited for an answer"
        training.process.kill()
        training.process.wait()
        server.signal("mlflow", signal.SIGKILL)
        server.wait()
        server.start()
        training.start()
        training.end()
        training.sync()
        training.assert_all_arrived()


def write_run(store_uri: str | None, home: Path, index: int, pause_s: float = 0.0) -> None:
    """What a trial writes: four metrics a step, committed now and then, parameters, tags and files in between."""
    store = open_store(store_uri, home)
    folder = home / "runs" / f"r{index}"
    with TrackedRun.start(
        store,
        experiment="figleaf",
        name=f"r{index}",
        folder=folder,
        params={"index": index},
        tags={"figleaf.study": "eight"},
        exit_wait_s=200,
    ) as run:
        for step in range(STEPS):
            run.journal.append({"loss": 1 / (step + 1), "lr": 0.1 * index, "auroc": step / STEPS, "index": index}, step)
            if step % 5 == 0:
                run.journal.commit()
            if step % 20 == 10:
                file = folder / f"at {step}.txt"
                file.write_text(f"{index} {step}")
                run.log_artifact(file, "files")
                run.set_tag("figleaf.reached", str(step))
            time.sleep(pause_s)


def assert_eight_whole_runs(store: Store) -> None:
    found = [run for run in runs(store) if run.tags.get("figleaf.study") == "eight"]
    assert sorted((run.name, run.status) for run in found) == [(f"r{i}", "FINISHED") for i in range(WRITERS)]
    for run in found:
        index = int(run.name[1:])
        assert history(store, run.run_id, "loss") == [(step, 1 / (step + 1)) for step in range(STEPS)]
        assert history(store, run.run_id, "lr") == [(step, 0.1 * index) for step in range(STEPS)]
        assert history(store, run.run_id, "auroc") == [(step, step / STEPS) for step in range(STEPS)]
        assert history(store, run.run_id, "index") == [(step, index) for step in range(STEPS)]
        assert run.tags["figleaf.reached"] == "50"
        for step in (10, 30, 50):
            assert run.artifact(f"files/at {step}.txt").read_text() == f"{index} {step}"


class TestEightRunsInParallel:
    """No lock error, no lost metric."""

    @pytest.mark.slow
    def test_on_sqlite(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        children = [in_child(partial(write_run, None, tmp_path, index)) for index in range(WRITERS)]
        assert [exit_code(child) for child in children] == [0] * WRITERS
        said = capfd.readouterr().err
        assert "the tracker takes nothing" not in said, said
        assert_eight_whole_runs(open_store(None, tmp_path))

    @pytest.mark.server
    @pytest.mark.slow
    def test_on_postgresql_with_the_server_killed_in_between(self, server: TeamServer, tmp_path: Path) -> None:
        store = server.store()
        children = [in_child(partial(write_run, server.url, tmp_path, i, pause_s=0.2)) for i in range(WRITERS)]
        until(lambda: sum(run.tags.get("figleaf.reached") == "10" for run in runs(store)) >= WRITERS)
        assert all(run.status == "RUNNING" for run in runs(store) if "figleaf.reached" in run.tags)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        time.sleep(3)
        server.start()
        assert [exit_code(child) for child in children] == [0] * WRITERS
        assert_eight_whole_runs(store)


class TestStudyWithEightTrialsAtOnce:
    """As above, but trained: no lock error, no lost metric, and each trial is recorded."""

    STUDY = f"""
    question: Does the tracker take eight trials at a time?
    base: [{", ".join(TRAIN[:2])}, optimizer.batch_size=64, {", ".join(TRAIN[3:-1])}, tracking.delivery_seconds=300]
    seeds: {list(range(1, WRITERS + 1))}
    arms: {{plain: []}}
    """
    EPOCHS = 6

    def run(self, place: Path, *overrides: str) -> "subprocess.Popen[str]":
        """Start the study."""
        folder = place / "experiments" / "eight"
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(textwrap.dedent(self.STUDY))
        command = [sys.executable, "-m", "figleaf.cli", "study", "run", "eight", "--jobs", str(WRITERS)]
        return subprocess.Popen(
            [*command, f"trainer.epochs={self.EPOCHS}", *overrides],
            cwd=place,
            env={**os.environ, "FIGLEAF_HOME": str(place / "home")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def assert_whole(self, driver: "subprocess.Popen[str]", store: Store, place: Path) -> None:
        """It ended well and nobody complained; all that was written is in the tracker and in the records."""
        said = driver.communicate(timeout=1200)[1]
        assert driver.returncode == 0, said
        found = [
            run for run in runs(store, study="eight") if run.name.startswith("plain-")
        ]  # the class before has its own
        assert sorted(run.name for run in found) == [f"plain-s{seed}" for seed in range(1, WRITERS + 1)]
        folders = [run.folder for run in found]
        for folder in folders:
            assert folder is not None
            written = assert_metrics_arrived(store, folder)
            assert [value for *_, value in written["epoch/index"]] == list(range(self.EPOCHS))
            result = json.loads((folder / "result.json").read_text())["metrics"]
            assert result.items() <= {key: rows[-1][2] for key, rows in written.items()}.items()
            assert_files_arrived(store, folder)
        assert assert_metrics_arrived(store, place / "home" / "studies" / "eight"), "the study's own run"
        records = load_records(place / "experiments" / "eight" / "results")
        assert {record.run_id for record in records.values()} == {run.run_id for run in found}

    @pytest.mark.slow
    @pytest.mark.timeout(1500)
    def test_on_sqlite(self, tmp_path: Path) -> None:
        self.assert_whole(self.run(tmp_path), open_store(None, tmp_path / "home"), tmp_path)
        for log in (tmp_path / "home" / "studies" / "eight" / "logs").iterdir():
            for complaint in ("locked", "the tracker takes nothing", "Traceback"):
                assert complaint not in log.read_text(), log.read_text()

    @pytest.mark.server
    @pytest.mark.slow
    @pytest.mark.timeout(1500)
    def test_on_postgresql_with_the_server_killed_in_between(self, server: TeamServer, tmp_path: Path) -> None:
        driver = self.run(tmp_path, f"tracking.uri={server.url}")
        at_work = partial((tmp_path / "home" / "runs").glob, "*/run.json")
        until(
            lambda: driver.poll() is not None or len([f for f in at_work() if len(journal(f.parent)) > 20]) == WRITERS,
            timeout_s=900,
        )
        assert driver.poll() is None, driver.communicate()[1]
        assert not list((tmp_path / "home" / "runs").glob("*/result.json")), "a trial ended too soon"
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        time.sleep(3)
        server.start()
        self.assert_whole(driver, server.store(), tmp_path)
