"""A run that was killed, wherever, ends as if it had not been."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_run import run_child
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

# Everything that draws random numbers is on (augmentation, PCA colour, dropout), and every state a resume could lose.
OVERRIDES = [
    "data=digits",
    "model=debug",
    "augment=pca",
    "trainer.epochs=3",
    "optimizer.batch_size=128",
    "optimizer.ema_decay=0.9",
    "trainer.checkpoint_seconds=0",
    "trainer.log_every_steps=1",
    "trainer.intervals=0",
]


def outcome(home: Path) -> dict[str, Any]:
    """Weights, optimiser state and the whole metric history of the one run in `home`."""
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    history = {
        key: [(row.step, row.value) for row in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
        if not key.startswith("time/")
    }
    (folder,) = (home / "runs").iterdir()
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        "status": run.info.status,
        "history": history,
        "best": load_file(folder / "checkpoints" / "best.safetensors"),
        "last": last["state_dict"],
        "momentum": [s["momentum_buffer"] for s in last["optimizer_states"][0]["state"].values()],
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("uninterrupted")
    assert run_child(home, OVERRIDES) == 0
    return outcome(home)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["status"] == expected["status"] == "FINISHED"
    assert found["history"] == expected["history"]
    assert all(len({step for step, _ in rows}) == len(rows) for rows in found["history"].values()), "a step twice"
    for part in ("best", "last"):
        assert found[part].keys() == expected[part].keys()
        for name, tensor in found[part].items():
            assert torch.equal(tensor, expected[part][name]), f"{part}: {name}"
    assert all(torch.equal(a, b) for a, b in zip(found["momentum"], expected["momentum"], strict=True))


@pytest.mark.parametrize(
    ("point", "occurrence"),
    [
        ("mid_epoch", 12),
        ("before_validation", 2),
        ("during_validation", 2),
        ("after_validation", 1),
        ("writing_checkpoint", 5),
        ("checkpoint_not_committed", 4),
        ("during_upload", 6),
        ("before_final_metrics", 1),
        ("after_final_metrics", 1),
        ("result_not_told", 1),
        ("told_and_gone", 1),
    ],
)
def test_killed_run_ends_as_if_it_had_not_been(
    point: str, occurrence: int, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    assert run_child(tmp_path, OVERRIDES, point, occurrence) == -signal.SIGKILL
    assert run_child(tmp_path, OVERRIDES) == 0
    assert_same(outcome(tmp_path), uninterrupted)


def test_run_killed_again_and_again_ends_the_same(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    for steps in (3, 7, 2):
        assert run_child(tmp_path, OVERRIDES, "mid_epoch", steps) == -signal.SIGKILL
    assert run_child(tmp_path, OVERRIDES) == 0
    assert_same(outcome(tmp_path), uninterrupted)


def test_other_seed_gives_other_weights(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    assert run_child(tmp_path, [*OVERRIDES, "seed=2"]) == 0
    weights = outcome(tmp_path)["best"]
    assert any(not torch.equal(tensor, uninterrupted["best"][name]) for name, tensor in weights.items())
