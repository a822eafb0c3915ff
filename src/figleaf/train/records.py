"""What a run leaves behind: metric rows, parameters, provenance, predictions, weights and figures, through the tracker.

Rank 0 has a `TrackedRecorder`; the other ranks have a `Recorder`, which keeps nothing.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
from filelock import FileLock

from figleaf.config import (
    SearchConfig,
    SkinConfig,
    TrainConfig,
    home,
    teacher_sha256,
    to_dict,
    to_yaml,
    weights_origin,
    weights_sha256,
)
from figleaf.evaluate.figures import learning_curves, reliability, roc_pr, save_figure
from figleaf.evaluate.metrics import slice_table
from figleaf.evaluate.predictions import Predictions
from figleaf.files import sha256_file, write_text
from figleaf.tracking.find import EVALUATION, KIND_TAG, SEARCH
from figleaf.tracking.journal import Row
from figleaf.tracking.provenance import environment, git_state, hardware
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import open_store
from figleaf.train.folder import RunFolder
from figleaf.train.inputs import Inputs
from figleaf.train.objective import Measurement
from figleaf.train.pruning import PRUNED_TAG, Pruned

# What runs are told apart by: the first of these that a run has.
SELECTION = ("val/pixel_f1", "val/auroc", "val/top1")


class Recorder:
    """Takes what a run tells and keeps none of it."""

    run_id = ""

    def start_at(self, journal_offset: int) -> None:
        """Go on behind this offset of the metric journal; what stands after it will be computed again."""

    def record(self, metrics: Mapping[str, float], step: int) -> None:
        """Note metrics of a step."""

    def offset(self) -> int:
        """How long the metric journal is, in bytes."""
        return 0

    def commit(self, offset: int) -> None:
        """Release the rows before `offset` to the tracker."""

    def keep(self, predictions: Predictions, name: str) -> None:
        """Keep further predictions, in a file called `name`."""

    def finish(self, measurement: Measurement, step: int) -> None:
        """Keep the final measurement of a training, with what it left behind."""

    def measured(self, measurement: Measurement, step: int, tags: Mapping[str, str]) -> None:
        """Keep a measurement; `tags` say of which weights."""


class TrackedRecorder(Recorder):
    """Takes what a run tells and brings it to MLflow."""

    def __init__(self, run: TrackedRun, folder: RunFolder, name: str) -> None:
        self.run, self.folder, self.name, self.run_id = run, folder, name, run.run_id

    def start_at(self, journal_offset: int) -> None:
        """Cut the journal back to the checkpoint."""
        self.run.journal.truncate(journal_offset)

    def record(self, metrics: Mapping[str, float], step: int) -> None:
        """Write a row to the journal."""
        self.run.journal.append(metrics, step)

    def offset(self) -> int:
        """Bytes in the journal."""
        return self.run.journal.offset

    def commit(self, offset: int) -> None:
        """Let the journal's rows before `offset` go to the tracker."""
        self.run.journal.commit(offset)

    def keep(self, predictions: Predictions, name: str) -> None:
        """Write them to the run's folder and keep them with the run."""
        self.run.log_artifact(predictions.save(self.folder.path / name))

    def finish(self, measurement: Measurement, step: int) -> None:
        """Write what `measured` writes, and keep weights and learning curves with the run."""
        run, folder = self.run, self.folder
        self.measured(measurement, step, {"figleaf.best_sha256": sha256_file(folder.best)})
        run.log_artifact(folder.best, "model")
        rows = pd.DataFrame(run.journal.rows(), columns=Row._fields)
        if rows["step"].nunique() < 2:  # what is fitted at once has no curve
            return
        curves = save_figure(learning_curves(rows, self.name), folder.path / "figures" / "learning_curves.png")
        run.log_artifact(curves, "figures")

    def measured(self, measurement: Measurement, step: int, tags: Mapping[str, str]) -> None:
        """Write the final rows; keep predictions, figures and tables with the run."""
        run, folder = self.run, self.folder
        metrics, predictions, threshold = measurement.metrics, measurement.predictions, measurement.threshold
        run.journal.append(metrics, step)
        run.log_artifact(predictions.save(folder.predictions))
        test, figures = predictions.select(split="test"), folder.path / "figures"
        if test.has_both_labels:
            run.log_artifact(save_figure(roc_pr(test, threshold), figures / "roc_pr.png"), "figures")
            run.log_artifact(save_figure(reliability(test), figures / "reliability.png"), "figures")
        if len(test):
            table = slice_table(test, threshold).to_csv(index=False)
            run.log_artifact(write_text(folder.path / "slices.csv", table))
        for name, rows in measurement.tables.items():
            run.log_artifact(write_text(folder.path / name, rows.to_csv(index=False)))
        selection = next((repr(metrics[key]) for key in SELECTION if key in metrics), "")
        run.set_tags({**tags, "figleaf.selection": selection})


@contextmanager
def open_recorder(
    config: TrainConfig,
    folder: RunFolder,
    inputs: Inputs,
    fingerprint: str,
    rank: int,
    lock: FileLock | None,
    more_tags: Mapping[str, str] | None = None,
) -> Iterator[Recorder]:
    """The recorder of this rank; the run's status is truthful once it is left, and a tag says if it was given up.

    `lock`: see `take_folder`.
    """
    if rank > 0:
        yield Recorder()
        return
    git = git_state()
    tags = {
        **(more_tags or {}),
        "figleaf.study": config.study or "",
        "figleaf.arm": config.arm or "",
        "figleaf.seed": str(config.seed),
        "figleaf.fingerprint": fingerprint,
        "figleaf.data_hash": inputs.data_hash,
        "figleaf.data_name": inputs.manifest.name,
        "figleaf.weights_sha256": weights_sha256(config),
        **({"figleaf.teacher_sha256": teacher_sha256(config)} if config.distill.teacher is not None else {}),
        **{f"figleaf.weights_{key}": value for key, value in weights_origin(config).items()},
        "figleaf.git_commit": git["commit"],
        "figleaf.git_dirty": str(git["dirty"]).lower(),
    }
    if config.evaluation is not None:
        tags[KIND_TAG] = EVALUATION
    elif isinstance(config.model, SearchConfig):
        tags[KIND_TAG] = SEARCH
    if warnings := inputs.warnings():
        tags["figleaf.warnings"] = "\n".join(warnings)
    tracked = TrackedRun.start(
        open_store(config.tracking.uri, home()),
        experiment=config.tracking.experiment,
        name=run_name(config),
        folder=folder.path,
        params=to_dict(config),
        tags=tags,
        parent_run_id=config.parent_run_id,
        exit_wait_s=config.tracking.delivery_seconds,
        lock=lock,
    )
    with tracked as run:
        run.log_artifact(write_text(folder.path / "config.yaml", to_yaml(config)))
        run.log_artifact(write_text(folder.path / "config.json", json.dumps(to_dict(config), indent=2) + "\n"))
        run.log_artifact(write_text(folder.path / "environment.txt", environment()))
        run.log_artifact(write_text(folder.path / "hardware.json", json.dumps(hardware(), indent=2) + "\n"))
        if git["diff"]:
            run.log_artifact(write_text(folder.path / "git.diff", git["diff"]))
        try:
            yield TrackedRecorder(run, folder, run_name(config))
        except Pruned:
            run.set_tag(PRUNED_TAG, "true")
            raise


def run_name(config: TrainConfig) -> str:
    """A name made from what varies between runs, such as `vgg16_bn-w0.125-64px-gap-pca_eig01-s1`."""
    if config.name:
        return config.name
    if config.arm:
        return f"{config.arm}-s{config.seed}"
    m, a = config.model, config.augment
    if isinstance(m, SkinConfig | SearchConfig):
        called = f"skin_{m.system}" if isinstance(m, SkinConfig) else f"search_{m.features}"
        varied = [f"{key}_{value}" for key, value in sorted(m.options.items())]
        return "-".join([called, *varied, f"s{config.seed}"])
    parts: list[Any] = [f"vgg{m.depth}" + ("_bn" if m.batch_norm else ""), f"w{m.width:g}", f"{m.input_size}px", m.head]
    parts += ["pruned"] if m.channels else []
    parts += [f"rank{'_'.join(map(str, m.fc_ranks))}"] if m.fc_ranks else []
    parts += [f"drop{m.dropout:g}"] if m.dropout else []
    parts += [f"pca_{a.pca_color}"] if a.pca_color != "none" else []
    return "-".join([*parts, f"s{config.seed}"])
