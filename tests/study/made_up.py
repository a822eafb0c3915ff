"""Made-up runs of a study: what the tracker would hold had they been trained."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from figleaf.config import fingerprint, to_dict
from figleaf.evaluate.predictions import Predictions
from figleaf.study.plan import Knowledge, Trial, compose_trials, plan
from figleaf.study.spec import Study, load_study
from figleaf.tracking.find import FoundRun

DATA_HASH = "d" * 64
COMMIT = "c0ffee" + "0" * 34

STUDY = """
question: Does depth or dropout matter?
data_note: made-up data
base: [data=digits, model=debug]
seeds: [0, 1, 2]
grid:
  depth: {vgg11: model.depth=11, vgg13: model.depth=13}
  dropout: {drop0: model.dropout=0.0, drop.5: model.dropout=0.5}
"""


def write_study(folder: Path, text: str = STUDY) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return load_study(folder)


def made_run(trial: Trial, metrics: dict[str, float] | None = None, **changes: Any) -> FoundRun:
    """A finished run of `trial`; `changes` replace fields, and tags are added."""
    tags = {
        "figleaf.study": str(trial.config.study),
        "figleaf.arm": trial.arm,
        "figleaf.seed": str(trial.seed),
        "figleaf.data_hash": DATA_HASH,
        "figleaf.data_name": "digits",
        "figleaf.git_commit": COMMIT,
        "figleaf.git_dirty": "false",
    } | changes.pop("tags", {})
    tags.setdefault("figleaf.fingerprint", fingerprint(trial.config, tags["figleaf.data_hash"]))
    fields: dict[str, Any] = {
        "run_id": f"{trial.name}".ljust(32, "0"),
        "name": f"{trial.arm}-s{trial.seed}",
        "status": "FINISHED",
        "start_time_ms": 1,
        "params": {},
        "metrics": SIZES | (metrics or {}),
        "artifact_uri": "file:///nowhere",
        "experiment_id": "1",
    }
    return FoundRun(**(fields | changes), tags=tags, _client=None, _downloads=Path("/nowhere"))


SIZES = {
    "test/n": 684.0,
    "test/n_groups": 135.0,
    "test/prevalence": 0.4547,
    "cost/parameters": 926_370.0,
    "cost/gmacs": 0.07891,
    "cost/megabytes": 3.53,
    "time/train_seconds": 181.4,
}


_composed: dict[str, list[Trial]] = {}


def trials_of(study: Study) -> list[Trial]:
    """`compose_trials`, once for the same study: Hydra takes its time."""
    key = repr((study.name, study.base, study.arms, study.seeds))
    if key not in _composed:
        _composed[key] = compose_trials(study)
    return _composed[key]


def known(runs: list[FoundRun], **changes: Any) -> Knowledge:
    fields: dict[str, Any] = {"runs": runs, "runs_folder": Path("/nowhere"), "is_locked": lambda folder: False}
    return Knowledge(**(fields | changes))


def all_done(study: Study, **metrics: list[float]) -> list[Trial]:
    """Every trial finished: `auroc` (by default rising from trial to trial) is val's and, less 0.01, test's."""
    trials = trials_of(study)
    runs = []
    for i, trial in enumerate(trials):
        auroc = metrics["auroc"][i] if "auroc" in metrics else 0.90 + 0.005 * i
        runs.append(
            made_run(
                trial,
                {
                    "val/auroc": auroc,
                    "test/auroc": auroc - 0.01,
                    "test/auroc_low": auroc - 0.03,
                    "test/auroc_high": auroc + 0.005,
                },
            )
        )
    return plan(trials, known(runs))


class Client:
    """Answers as MLflow does for a run's curve."""

    def get_metric_history(self, run_id: str, key: str) -> list[SimpleNamespace]:
        rows = [SimpleNamespace(step=10 * epoch, value=1 - 0.5**epoch) for epoch in range(1, 5)]
        return rows[::-1] if run_id.startswith("vgg11") else []

    def list_artifacts(self, run_id: str) -> list[SimpleNamespace]:
        return []


MACHINE = {"cpu": "a processor", "cores": 4, "usable_cores": 2, "memory_gib": 7.8, "torch_threads": 1}


def made_predictions(seed: int, n: int = 40) -> Predictions:
    """Of `n` samples in pairs of one group, half of them unsafe, half of them val; one is an error."""
    rng = np.random.default_rng(seed)
    unsafe = np.arange(n) % 2 == 1
    samples = pd.DataFrame(
        {
            "sample_id": [f"images/{i}.png" for i in range(n)],
            "content_sha256": [f"{i:064x}" for i in range(n)],
            "split": ["val" if i < n // 2 else "test" for i in range(n)],
            "group": [f"g{i // 4}" for i in range(n)],
            "slice": "all",
            "label": np.where(unsafe, "nsfw", "sfw"),
        }
    )
    logits = np.stack([np.zeros(n), rng.normal(unsafe * 1.5, 1)], axis=1).astype(np.float32)
    names = {"classes": ("sfw", "nsfw"), "unsafe": ("nsfw",), "data_name": "digits", "data_hash": DATA_HASH}
    errors = [None] * (n - 1) + ["truncated"]
    return Predictions.from_logits(samples, logits, errors=errors, **names)  # type: ignore[arg-type]


def tracked(study: Study, folder: Path, *trials: Trial) -> list[Trial]:
    """Finished trials (by default all of the study's) whose runs have artifacts and histories, in `folder`."""
    found = []
    for i, trial in enumerate(trials or all_done(study)):
        artifacts = folder / trial.name
        artifacts.mkdir(parents=True, exist_ok=True)
        made_predictions(i).save(artifacts / "predictions.parquet")
        (artifacts / "hardware.json").write_text(json.dumps(MACHINE))
        (artifacts / "config.json").write_text(json.dumps(to_dict(trial.config)))
        assert isinstance(trial.run, FoundRun)
        metrics = trial.run.metrics | {"epoch/val_auroc": 0.9375, "epoch/index": 3.0}
        run = replace(trial.run, metrics=metrics, artifact_uri=artifacts.as_uri(), _client=Client())  # type: ignore[arg-type]
        found.append(replace(trial, run=run))
    return found
