import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from figleaf.tracking import provenance
from figleaf.tracking.provenance import environment, git_state, hardware


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of one commit with one file."""
    folder = tmp_path / "checkout"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "code.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_an_unchanged_checkout_is_clean(checkout: Path) -> None:
    (checkout / "noise.log").write_text("ignored")
    assert git_state(checkout) == {"commit": git(checkout, "rev-parse", "HEAD").strip(), "dirty": False, "diff": ""}


def test_the_patch_rebuilds_the_changed_code_from_the_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "deep" / "code.py").write_text("x = 2\n")
    git(checkout, "config", "diff.external", "false")  # a user's own viewer must not get in the way
    state = git_state(checkout / "deep")
    assert state["dirty"]
    git(tmp_path, "clone", "-q", "checkout", "clone")
    patch = tmp_path / "git.diff"
    patch.write_text(state["diff"])
    git(tmp_path / "clone", "apply", str(patch))
    assert (tmp_path / "clone" / "deep" / "code.py").read_text() == "x = 2\n"


def test_staged_changes_and_new_files_count_as_changes(checkout: Path) -> None:
    (checkout / "neü file.py").write_text("new")
    state = git_state(checkout / "deep")
    assert state["dirty"]
    assert state["diff"] == "# new file, not in the patch: neü file.py\n"
    git(checkout, "add", ".")
    assert "+new" in git_state(checkout)["diff"]


def test_new_code_and_presets_are_in_the_patch_and_nothing_else_new_is(checkout: Path, tmp_path: Path) -> None:
    new = {"src/new.py": "z = 1\n", "conf/größe.yaml": "a: 1", "src/photo.png": "private", "secret.py": "key"}
    for name, text in new.items():
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(text)
    diff = git_state(checkout / "deep")["diff"]
    assert "private" not in diff
    assert "key" not in diff
    assert diff.endswith("# new file, not in the patch: secret.py\n# new file, not in the patch: src/photo.png\n")
    git(tmp_path, "clone", "-q", "checkout", "clone")
    patch = tmp_path / "git.diff"
    patch.write_text(diff)
    git(tmp_path / "clone", "apply", str(patch))
    for name in ("src/new.py", "conf/größe.yaml"):
        assert (tmp_path / "clone" / name).read_text() == new[name]


def test_what_studies_generate_is_no_change_of_the_code_and_what_they_declare_is(checkout: Path) -> None:
    study = checkout / "experiments" / "depth"
    (study / "results" / "records").mkdir(parents=True)
    (study / "study.yaml").write_text("question: x\n")
    (study / "README.md").write_text("first\n")
    (study / "results" / "table.md").write_text("first\n")
    git(checkout, "add", ".")
    git(checkout, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", "second")
    (study / "results" / "table.md").write_text("second\n")
    (study / "README.md").write_text("second\n")
    (study / "results" / "records" / "plain-1.json").write_text("{}")
    for folder in (checkout, checkout / "experiments", checkout / "deep"):
        assert not git_state(folder)["dirty"]
    (study / "study.yaml").write_text("question: y\n")
    state = git_state(checkout)
    assert state["dirty"]
    assert "question: y" in state["diff"]
    assert "second" not in state["diff"]


def test_a_huge_patch_is_cut_and_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_LONGEST_DIFF", 1000)
    (checkout / "deep" / "code.py").write_text("y" * 5000)
    diff = git_state(checkout)["diff"]
    assert len(diff) < 1100
    assert diff.rstrip().endswith("characters in all")


def test_without_a_checkout_or_without_git_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    unknown = {"commit": "unknown", "dirty": False, "diff": ""}
    assert git_state(tmp_path) == unknown
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == unknown


def test_the_environment_lists_every_distribution_once() -> None:
    lines = environment().splitlines()
    assert lines[0].startswith(f"# Python {sys.version.split()[0]}")
    assert f"mlflow=={version('mlflow')}" in lines
    assert len(set(lines)) == len(lines)


def test_the_hardware_is_plain_data_and_importing_torch_is_left_to_others() -> None:
    program = "import json, sys; from figleaf.tracking.provenance import hardware; "
    program += "print(json.dumps([hardware(), 'torch' in sys.modules]))"
    found, torch_imported = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert not torch_imported
    assert found["cpu"]
    assert found["cores"] >= found["usable_cores"] >= 1
    assert found["memory_gib"] > 0


def test_with_torch_the_threads_and_gpus_are_known() -> None:
    import torch

    found = hardware()
    assert found["torch_threads"] == torch.get_num_threads()
    assert len(found["gpus"]) == torch.cuda.device_count()
