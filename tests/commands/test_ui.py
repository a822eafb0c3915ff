"""`figleaf ui` serves the runs to this machine and leaves no process behind, however it ends; it links to a study's."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from figleaf.cli import main
from figleaf.study.pages import StudyPages
from figleaf.tracking.links import RunList
from figleaf.tracking.store import Store

slow = pytest.mark.slow


def until(holds: Callable[[], object], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok
    except requests.RequestException:
        return False


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_to_the_command_alone_ends_all_that_it_started(
    number: signal.Signals, code: int, home: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with (tmp_path / "said").open("w") as said:
        command = subprocess.Popen(
            [sys.executable, "-m", "figleaf.cli", "ui", "--port", str(port)],
            stderr=said,
            # A parent that ignores Ctrl-C, as a shell's background jobs do, would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        until(lambda: answers(port) or command.poll() is not None, 180)
        children = psutil.Process(command.pid).children(recursive=True)
        assert any("uvicorn" in " ".join(child.cmdline()) for child in children)
        until(lambda: f"http://127.0.0.1:{port}" in (tmp_path / "said").read_text(), 10)
        assert main(["ui", "--port", str(port)]) == 2  # in use: said without another server
        command.send_signal(number)
        assert command.wait(60) == code
        until(lambda: not any(map(lives, children)), 30)
        assert not answers(port)
        assert (home / "logs" / f"ui-{port}.log").stat().st_size > 0
    finally:
        command.kill()


@slow
def test_a_server_that_ends_by_itself_is_reported_with_its_last_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [sys.executable, "-c", "raise SystemExit('error: no pages today')"]
    monkeypatch.setattr("figleaf.tracking.store.ui_command", lambda *_: fails)
    assert main(["ui", "--port", "0"]) == 1
    assert "no pages today (log: " in capsys.readouterr().err


def test_study_without_runs_is_named_with_what_trains_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "experiments" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(
        "{question: Why so, base: [data=digits, model=debug], seeds: [0], arms: {plain: []}}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    assert main(["ui", "--port", "0", "mine"]) == 2
    said = capsys.readouterr().err
    assert "study mine: none of its finished runs is in sqlite:///" in said
    assert "`figleaf study run mine` trains them" in said
    assert main(["ui", "mime"]) == 2
    assert "did you mean mine?" in capsys.readouterr().err


@pytest.mark.parametrize("opens", [True, False])
def test_study_in_a_server_is_shown_there_and_nothing_is_started(
    opens: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = RunList("study mine", "", ("arm",), ("val/auroc",), "val/auroc")
    asked: list[tuple[str, list[str]]] = []

    def open_pages(name: str, overrides: list[str]) -> tuple[Store, StudyPages]:
        asked.append((name, overrides))
        store = Store(None, "http://tracker.lab:5000", Path("/nowhere"), None)  # type: ignore[arg-type]
        return store, StudyPages("7", view, (), "all 4 runs", ("a remark",))

    opened: list[str] = []
    monkeypatch.setattr("figleaf.study.pages.open_pages", open_pages)
    monkeypatch.setattr("webbrowser.open", lambda link: opened.append(link) or opens)
    assert main(["ui", "--open", "mine", "tracking=server", "seed=3"]) == 0
    assert asked == [("mine", ["tracking=server", "seed=3"])]
    said = capsys.readouterr().err
    links = [line.partition(": ")[2] for line in said.splitlines()[:2]]
    assert links[0].startswith("http://tracker.lab:5000/#/experiments/7/runs?viewStateShareKey=study-mine")
    assert links[1].startswith("http://tracker.lab:5000/#/compare-runs?")
    assert opened == (links if opens else links[:1])
    assert ("no browser was found" in said) is not opens
    assert "a remark" in said
