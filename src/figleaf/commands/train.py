"""`figleaf train`: one run, or a small grid of runs one after the other."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figleaf.commands.arguments import parse_mixed, print_json, require_manifest, say, with_overrides
from figleaf.config import TrainConfig, compose, expand_grid, home, to_dict, with_architecture
from figleaf.errors import FigleafError
from figleaf.vgg.weights_file import require_teacher_file, require_weights_file

EPILOG = """\
An interrupted run goes on when the same command is given again (resume=auto). A finished one is not repeated;
resume=never trains it anew. On standard output: one JSON object a run, with its id, folder and final metrics.

examples:
  figleaf train data=digits model=debug trainer.epochs=2
  figleaf train data=manifest data.manifest=my/manifest.csv model=vgg16_bn trainer=gpu
  figleaf train trainer=ddp trainer.devices=4 model=vgg16
  figleaf train -m model.dropout=0,0.5 seed=1,2
"""
# The numbers shown at the end, where they exist; the rest is in the tracker and on standard output.
SHOWN = (
    "val/pixel_f1",
    "test/pixel_f1",
    "val/auroc",
    "test/auroc",
    "val/accuracy",
    "test/accuracy",
    "val/top1",
    "test/top1",
    "test/recall_at_5fpr",
)


def main(arguments: Sequence[str]) -> int:
    """Train."""
    parser = with_overrides("train", "Train, measure and track one run.", EPILOG)
    parser.add_argument("-m", "--multirun", action="store_true", help="every combination of comma-separated values")
    options = parse_mixed(parser, arguments)
    if not options.multirun:
        config = compose("train", options.overrides)
        if options.print_config:
            print_json(to_dict(config))
            return 0
        _require_files(config)
        return _train(config)
    grid = expand_grid(options.overrides)
    configs: list[TrainConfig] = [compose("train", overrides) for overrides in grid]
    if several := next((c.trainer for c in configs if c.trainer.devices > 1 or c.trainer.num_nodes > 1), None):
        raise FigleafError(
            f"-m with trainer.devices={several.devices} trainer.num_nodes={several.num_nodes}: a grid is for runs on "
            "one device, as ranks would start all of it again. Declare the grid in experiments/NAME/study.yaml and "
            "give `figleaf study run NAME`, or `figleaf search NAME` for one that Optuna chooses from"
        )
    if options.print_config:
        for config in configs:
            print_json(to_dict(config))
        return 0
    for config in configs:
        _require_files(config)
    from figleaf.train.launch import start_trial, warm_context

    context, worst = warm_context(), 0
    for number, (overrides, config) in enumerate(zip(grid, configs, strict=True), 1):
        say(f"run {number} of {len(grid)}: {' '.join(overrides)}")
        # A fresh process for each, so that no run sees what another left in memory.
        trial = start_trial(config, context=context)
        try:
            code = trial.wait()
        finally:
            trial.stop()
        worst = max(worst, abs(code or 0))
        if trial.result is not None:
            _show(trial.result, config)
        elif trial.error:
            say(f"error: {trial.error}")
    return min(worst, 1)


def _require_files(config: TrainConfig) -> None:
    """Refuse what is not there at once: what would read it takes seconds to import."""
    require_manifest(config.data)
    require_weights_file(config.weights)
    require_teacher_file(config.distill.teacher)
    with_architecture(config, required=True)


def _train(config: TrainConfig) -> int:
    if config.trainer.devices == 1 and config.trainer.num_nodes == 1:
        from figleaf.train.turn import turn

        with turn(config, home() / "runs", say) as end_turn:
            from figleaf.train.task import train

            def announce(folder: Path) -> None:
                end_turn()
                _announce(folder)

            done = train(config, announce)
        _show(
            {"run_id": done.run_id, "folder": str(done.folder), "metrics": done.metrics, "repeated": done.repeated},
            config,
        )
        return 0
    from figleaf.train.launch import start_trial

    trial = start_trial(config)
    try:
        code = trial.wait()
    finally:
        trial.stop()
    if trial.result is not None:
        _show(trial.result, config)
    return abs(code or 0)


def _ignored(config: TrainConfig, kept: Mapping[str, Any]) -> list[str]:
    """The keys given to a run that was finished with other values: they are no part of what makes it that run.

    Their values are not shown: a tracker's address may hold a password.
    """
    given = {
        "name": (config.name, kept["name"]),
        "tracking.uri": (config.tracking.uri, kept["tracking"]["uri"]),
        "tracking.experiment": (config.tracking.experiment, kept["tracking"]["experiment"]),
    }
    return [f"{key}=" for key, (now, then) in given.items() if now is not None and now != then]


def _announce(folder: Path) -> None:
    say(f"run folder {folder}" + (" (going on from its checkpoint)" if (folder / "checkpoints").exists() else ""))


def _show(result: Mapping[str, Any], config: TrainConfig) -> None:
    metrics = result["metrics"]
    if result["repeated"]:
        ignored = _ignored(config, json.loads((Path(result["folder"]) / "config.json").read_text(encoding="utf-8")))
        change = f"; {' and '.join(ignored)} given now changed nothing of it" if ignored else ""
        say(f"this run was finished before{change}; resume=never trains it anew")
    name = "  ".join(f"{key} {metrics[key]:.4f}" for key in SHOWN if key in metrics)
    say(f"run {result['run_id']}\n{name}\nfolder {result['folder']}\n`figleaf ui` shows it ({home()})")
    if not sys.stdout.isatty():
        print_json({key: result[key] for key in ("run_id", "folder", "metrics")})
