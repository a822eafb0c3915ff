"""A run explains itself, and comes out again to the last bit from its own code, configuration and data."""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from figleaf.cli import main
from figleaf.config import home as figleaf_home
from figleaf.errors import FigleafError
from figleaf.tracking.find import FoundRun, find_run
from figleaf.tracking.provenance import environment
from figleaf.tracking.store import open_store
from figleaf.train import origin as origin_module
from figleaf.train import rerun
from figleaf.train.origin import Origin, Today
from figleaf.train.rerun import MetricChange, repeat, worktree

DIFF = "diff --git a/x b/x\n-# new\n+# new file, not in the patch: fake\n"


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def made_origin(**changes: Any) -> Origin:
    fields: dict[str, Any] = {
        "values": {},
        "commit": "c" * 40,
        "is_dirty": False,
        "diff": "",
        "new_files": (),
        "is_cut": False,
        "environment": environment(),
        "hardware": {},
        "data_name": "digits",
        "data_hash": "d" * 64,
        "weights_sha256": "",
    }
    return Origin(**(fields | changes))


def kept(tmp_path: Path, **files: str) -> Any:
    """A run that kept these artifacts (`config_json` stands for config.json)."""
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)

    def artifact(name: str) -> Path:
        if not (tmp_path / name).exists():
            raise FigleafError("no such file")
        return tmp_path / name

    return SimpleNamespace(run_id="a" * 32, name="r", tags={"figleaf.git_dirty": "true"}, artifact=artifact)


def test_patch_and_the_names_of_new_files_are_told_apart(tmp_path: Path) -> None:
    text = DIFF + "# new file, not in the patch: größe 1.py\n"
    found = Origin.of(kept(tmp_path, config_json="{}", git_diff=text))
    assert found.diff == DIFF
    assert found.new_files == ("größe 1.py",)
    assert not found.is_cut
    assert Origin.of(kept(tmp_path, git_diff=DIFF + "\n# cut: 9 characters in all\n")).is_cut


def test_run_without_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="kept no configuration"):
        Origin.of(kept(tmp_path))


def test_what_is_different_today_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    then = environment().replace("numpy==", "numpy==0.") + "gone==1.0\n"
    monkeypatch.setattr(origin_module, "hardware", lambda: {"cores": 2, "cpu": "new"})
    today = Today.against(made_origin(environment=then, hardware={"cores": 2, "cpu": "old", "lost": 1}))
    assert set(today.packages) == {"numpy", "gone"}
    assert today.packages["gone"] == ("1.0", "")
    was, now = today.packages["numpy"]
    assert was == f"0.{now}"
    assert today.platform is None
    assert today.hardware == {"cpu": ("old", "new")}


@pytest.mark.parametrize(
    ("commit", "was_dirty", "is_dirty", "same"),
    [("a", False, False, True), ("b", False, False, False), ("a", True, False, False), ("a", False, True, False)],
)
def test_code_is_the_same_only_when_both_are_one_clean_commit(
    monkeypatch: pytest.MonkeyPatch, commit: str, was_dirty: bool, is_dirty: bool, same: bool
) -> None:
    monkeypatch.setattr(origin_module, "git_state", lambda: {"commit": "a", "dirty": is_dirty, "diff": ""})
    assert Today.against(made_origin(commit=commit, is_dirty=was_dirty)).same_code is same


class Run:
    """A finished run with these metric values, each a list by step."""

    def __init__(self, **values: list[float]) -> None:
        self.values = {key.replace("__", "/"): rows for key, rows in values.items()}
        self.metrics = {key: rows[-1] for key, rows in self.values.items()}
        self.status, self.name, self.run_id, self.tags = "FINISHED", "r", "a" * 32, {"figleaf.data_hash": "d"}

    def history(self, key: str) -> list[tuple[int, float]]:
        return list(enumerate(self.values[key]))


def repeated(first: Run, again: Run, monkeypatch: pytest.MonkeyPatch, tolerance: float = 0.0) -> rerun.Repetition:
    monkeypatch.setattr(rerun, "_train", lambda *_: again)
    return repeat(first, made_origin(), Path("unused"), tolerance=tolerance)  # type: ignore[arg-type]


def test_every_value_counts_but_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Run(loss=[1.0, 0.5, math.nan], time__train_seconds=[3.0], lr=[math.inf])
    same = Run(loss=[1.0, 0.5, math.nan], time__train_seconds=[9.0], lr=[math.inf], later=[1.0])
    found = repeated(first, same, monkeypatch)
    assert not found.changes
    assert found.n_values == 4
    assert found.new_keys == ("later",)
    # The last value agrees, one on the way does not.
    other = Run(loss=[1.0, 0.5 + 1e-16 * 2, math.nan], lr=[math.inf])
    assert repeated(first, other, monkeypatch).changes == (MetricChange("loss", 1, 0.5, 0.5 + 1e-16 * 2),)
    assert not repeated(first, other, monkeypatch, tolerance=1e-9).changes
    for lacking in (Run(loss=[1.0, 0.5, math.nan]), Run(loss=[1.0, 0.5], lr=[math.inf])):
        assert len(repeated(first, lacking, monkeypatch).changes) == 1


def test_unfinished_run_is_not_repeated() -> None:
    run = Run(loss=[1.0])
    run.status = "KILLED"
    with pytest.raises(FigleafError, match="KILLED"):
        repeat(run, made_origin(), Path("unused"))  # type: ignore[arg-type]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with figleaf's worker in its first commit, and a second commit without."""
    folder = tmp_path / "repository"
    worker = folder / "src" / "figleaf" / "train" / "worker.py"
    worker.parent.mkdir(parents=True)
    worker.write_text("x = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    worker.unlink()
    git(folder, "commit", "-q", "-a", "-m", "second")
    return folder


def test_worktree_holds_commit_and_patch_and_is_gone_afterwards(repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    (repository / "file").write_text("untouched")
    first = git(repository, "rev-parse", "HEAD~1")
    patch = "--- a/src/figleaf/train/worker.py\n+++ b/src/figleaf/train/worker.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    sources: list[Path] = []

    def interrupted() -> None:
        with worktree(repository, made_origin(commit=first, diff=patch)) as source:
            sources.append(source)
            assert (source / "figleaf" / "train" / "worker.py").read_text() == "x = 2\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not sources[0].exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == before
    assert not (tmp_path / "ran").exists(), "a hook of the repository ran"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"commit": "f" * 40}, "git fetch"),
        ({"is_cut": True}, "too long"),
        ({"diff": "--- a/none\n+++ b/none\n@@ -1 +1 @@\n-x\n+y\n"}, "`git apply"),
        ({"commit": "HEAD"}, "no src/figleaf/train/worker.py"),
    ],
)
def test_code_that_cannot_be_made_again_is_named(repository: Path, changes: dict[str, Any], told: str) -> None:
    wanted = made_origin(commit=git(repository, "rev-parse", "HEAD~1"))
    with pytest.raises(FigleafError, match=told), worktree(repository, replace(wanted, **changes)):
        pass
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["latest", "--worktree"], "--rerun"), (["latest", "--tolerance", "-1"], "at least 0"), (["missing"], "missing")],
)
def test_mistakes_are_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-run", *arguments]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert not shown.out


@pytest.mark.slow
class TestTrainedRun:
    """What only a real training shows."""

    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A home with one finished run, made by a command."""
        folder = tmp_path_factory.mktemp("trained") / "home"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIGLEAF_HOME", str(folder))
            settings = [
                "data=digits",
                "model=debug",
                "augment=pca",
                "trainer.epochs=1",
                "trainer.intervals=20",
                "seed=3",
            ]
            assert main(["train", *settings, "trainer.threads=1", "study=mine", "arm=a"]) == 0
        return folder

    @pytest.fixture(autouse=True)
    def here(self, trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> FoundRun:
        monkeypatch.setenv("FIGLEAF_HOME", str(trained))
        return find_run(open_store(None, trained), "latest")

    def test_explanation_holds_command_code_data_and_machine(
        self, here: FoundRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["explain-run", "latest", "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        settings = {"data=digits", "model=debug", "augment=pca", "trainer.epochs=1", "trainer.threads=1", "seed=3"}
        assert settings < set(told["command"].split())
        assert not any("study" in part or "arm" in part for part in told["command"].split())
        assert told["data"]["hash"] == here.tags["figleaf.data_hash"]
        assert told["machine"]["cores"]
        assert told["differences"]["packages"] == {}
        assert main(["explain-run", "latest"]) == 0
        shown = capsys.readouterr().out
        assert told["command"] in shown
        assert told["code"]["commit"] in shown

    def test_trained_again_it_is_the_same_in_a_home_of_its_own(
        self, here: FoundRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["explain-run", here.run_id[:8], "--rerun", "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)["rerun"]
        assert told["is_same"]
        assert told["changes"] == []
        assert told["values_compared"] > 50
        again = find_run(open_store(None, Path(told["home"])), told["run_id"])
        assert again.tags["figleaf.study"] == ""
        assert Path(told["home"]).is_relative_to(figleaf_home() / "reruns")
        assert find_run(open_store(None, figleaf_home()), "latest").run_id == here.run_id, "the study saw another run"

    def test_other_configuration_comes_out_otherwise_and_exits_with_1(
        self, here: FoundRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = Path(urlsplit(here.artifact_uri).path) / "config.json"
        original = file.read_text()
        try:
            file.write_text(json.dumps(json.loads(original) | {"seed": 4}))
            assert main(["explain-run", "latest", "--rerun"]) == 1
        finally:
            file.write_text(original)
        shown = capsys.readouterr().out
        assert "differs   train/loss at step 10: then" in shown
        assert "differs   time/" not in shown

    def test_failed_repetition_is_told_with_its_last_words(
        self, here: FoundRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = Path(urlsplit(here.artifact_uri).path) / "config.json"
        original = file.read_text()
        try:
            file.write_text(json.dumps(json.loads(original) | {"unknown": 4}))
            assert main(["explain-run", "latest", "--rerun"]) == 2
        finally:
            file.write_text(original)
        shown = capsys.readouterr()
        assert "unknown: unknown key" in shown.err
        assert "figleaf.train.worker config.json" in shown.out
