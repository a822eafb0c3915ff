"""A dense training that was killed ends as if it had not been, and two processes train what one does."""

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from killed_run import run_child
from safetensors.torch import load_file
from test_resume import assert_same, outcome

from figleaf.config import compose
from figleaf.train.launch import start_trial
from figleaf.vgg.weights import load

# Everything that draws random numbers is on, and both losses.
OVERRIDES = [
    "data=scenes",
    "data.count=80",
    "data.size=32",
    "model=debug",
    "model.head=dense",
    "augment=pca",
    "optimizer.dice=0.5",
    "optimizer.batch_size=16",
    "optimizer.ema_decay=0.9",
    "trainer.epochs=3",
    "trainer.checkpoint_seconds=0",
    "trainer.log_every_steps=1",
    "trainer.intervals=0",
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("uninterrupted")
    assert run_child(home, OVERRIDES) == 0
    return outcome(home) | thresholds(home)


def thresholds(home: Path) -> dict[str, Any]:
    """What the final measurement has added to the weights' file."""
    (folder,) = (home / "runs").iterdir()
    facts = load(folder / "checkpoints" / "best.safetensors")[1]
    return {"thresholds": (facts["skin_threshold"], facts["share_threshold"])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "occurrence"),
    [("mid_epoch", 6), ("during_validation", 2), ("before_final_metrics", 1), ("after_final_metrics", 1)],
)
def test_killed_run_ends_as_if_it_had_not_been(
    point: str, occurrence: int, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    assert run_child(tmp_path, OVERRIDES, point, occurrence) == -signal.SIGKILL
    assert run_child(tmp_path, OVERRIDES) == 0
    assert_same(outcome(tmp_path), uninterrupted)
    assert thresholds(tmp_path)["thresholds"] == uninterrupted["thresholds"]


@pytest.mark.ddp
def test_two_processes_give_the_weights_and_the_pixels_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No batch norm: what a sample does must not depend on which process it is in.
    alike = ["model.batch_norm=false", "model.dropout=0", "optimizer.ema_decay=0", "trainer.threads=1"]
    folders = []
    for name, more in (("one", []), ("two", ["trainer=ddp_cpu"])):
        monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / name))
        trial = start_trial(compose("train", [*OVERRIDES, *alike, *more]), log=tmp_path / name / "log.txt")
        assert trial.wait(240) == 0, (tmp_path / name / "log.txt").read_text()
        assert trial.run_folder is not None
        folders.append(trial.run_folder)
    one, two = (load_file(folder / "checkpoints" / "best.safetensors") for folder in folders)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=0)
    tables = [pd.read_csv(folder / "pixels.csv") for folder in folders]
    assert tables[0]["sample_id"].tolist() == tables[1]["sample_id"].tolist()
    assert tables[1]["sample_id"].is_unique, "each sample once"
    assert (tables[0]["pixel_auroc"] - tables[1]["pixel_auroc"]).abs().max() < 1e-3
