"""The training task: from a configuration to a finished, tracked run."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from figleaf.config import ModelConfig, SearchConfig, SkinConfig, TrainConfig, fingerprint, home, with_architecture
from figleaf.data.loader import EpochLoader
from figleaf.data.sampler import shard
from figleaf.tracking.run import has_finished
from figleaf.train.build import keep_best, make_module, make_objective, make_plan, plateau
from figleaf.train.callbacks import BestWeights, DurableCheckpoint, MetricRows, WeightAverage, read_checkpoint
from figleaf.train.evaluation import measure_trained
from figleaf.train.folder import RunFolder, take_folder
from figleaf.train.frozen import frozen_features
from figleaf.train.growth import growth_of
from figleaf.train.inputs import Inputs, load_inputs, reads_masks
from figleaf.train.measure import clock_metrics, cost_metrics, device_of
from figleaf.train.pruning import Ask, Pruning
from figleaf.train.ranks import process_group, require_equal_fingerprints, share
from figleaf.train.records import Recorder, open_recorder
from figleaf.train.teacher import require_pupil
from figleaf.train.trainer import make_trainer
from figleaf.vgg.weights_file import require_teacher_file, require_weights_file
from figleaf.vgg.whitening import whiten


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its MLflow id, folder, and final metrics. `repeated`: it had been finished before this call."""

    run_id: str
    folder: Path
    metrics: dict[str, float]
    repeated: bool = False


def train(
    config: TrainConfig,
    announce: Callable[[Path], None] = lambda folder: None,
    *,
    tags: Mapping[str, str] | None = None,
    ask: Ask | None = None,
) -> TrainResult:
    """Train, measure and track one run; on ranks above 0 the result is the same and nothing is written.

    With `evaluation` nothing is trained: see `figleaf.train.evaluation`; a skin system is fitted instead: see
    `figleaf.train.fitting`; of a search an index is made: see `figleaf.train.searching`. One rank does any of these.

    `announce` is told the run folder as soon as it is known. `tags` go to the tracker, too. `ask` may give the training
    up after an epoch; rank 0's is called, but every rank or none has to be given one. Goes on where an interrupted run
    of the same configuration and data stopped. Raises `FigleafError` for what the user can mend and `Pruned` when the
    training was given up; any other exception leaves a run marked FAILED.
    """
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    # Of a file that was not there when the configuration was composed.
    config = with_architecture(config, required=True)
    # Before the tracker has a run that could only fail.
    require_weights_file(config.weights)
    require_teacher_file(config.distill.teacher)
    require_pupil(config)
    if isinstance(config.model, ModelConfig) and config.evaluation is None:
        growth_of(config.model, config.trainer, 1)
    if isinstance(config.model, SkinConfig):
        from figleaf.train.fitting import require_system  # networks do without scikit-learn

        require_system(config)
    with process_group(config.trainer.accelerator) as (rank, world_size):
        size, larger, masks = config.model.input_size, config.augment.larger, reads_masks(config.model)
        inputs = load_inputs(config.data, size, larger, home(), masks=masks)
        warnings = inputs.warnings()
        if rank == 0:
            for warning in warnings:
                print(f"warning: {warning}", file=sys.stderr)
        print_ = fingerprint(config, inputs.data_hash)
        if world_size > 1:
            # One write a line: `print` would send the end of line by itself, and the ranks share the log.
            sys.stderr.write(f"rank {rank} of {world_size}: fingerprint {print_}\n")
        require_equal_fingerprints(print_, world_size)
        with take_folder(home() / "runs", print_, config.resume, rank) as (chosen, lock):
            folder = share(chosen, rank, world_size)
            announce(folder.path)
            finished = share(folder.result, rank, world_size)
            repeated = finished is not None
            if finished is None:
                with open_recorder(config, folder, inputs, print_, rank, lock, tags) as recorder:
                    if config.evaluation is not None:
                        found = measure_trained(config, folder, inputs, recorder)
                    elif isinstance(config.model, SkinConfig):
                        from figleaf.train.fitting import fit_system

                        found = fit_system(config, folder, inputs, recorder)
                    elif isinstance(config.model, SearchConfig):
                        from figleaf.train.searching import index_train

                        found = index_train(config, folder, inputs, recorder)
                    else:
                        found = _run(config, folder, inputs, recorder, rank, world_size, ask)
                    finished = {"run_id": recorder.run_id, "metrics": found, "fingerprint": print_}
                    if rank == 0:
                        folder.write_result(finished)
            elif rank == 0 and not has_finished(folder.path):
                # Killed between writing the result and telling the tracker: opening and leaving the run tells it.
                with open_recorder(config, folder, inputs, print_, rank, lock, tags):
                    pass
        return TrainResult(finished["run_id"], folder.path, finished["metrics"], repeated)


def _run(
    config: TrainConfig,
    folder: RunFolder,
    inputs: Inputs,
    recorder: Recorder,
    rank: int,
    world_size: int,
    ask: Ask | None,
) -> dict[str, float]:
    """Fit, then measure the best weights; without epochs, those it would start from."""
    checkpoint = read_checkpoint(folder.checkpoint) if folder.checkpoint else None
    recorder.start_at(checkpoint["journal_offset"] if checkpoint else 0)
    objective = make_objective(config, inputs)
    plan = make_plan(config, inputs, objective.rows("train"), rank, world_size)
    module = make_module(config, objective, plan)
    if config.network.whiten:
        whiten(module.network, inputs.pictures.pixels, objective.rows("train"), config.seed)
    clock = MetricRows(recorder.record, config.trainer.log_every_steps)
    best = BestWeights(
        lambda net: keep_best(net, folder, inputs, config),
        patience=config.trainer.early_stopping,
        plateau=plateau(config),
        target=config.trainer.target,
    )
    if not config.trainer.epochs:
        if rank == 0:
            keep_best(module.selected, folder, inputs, config)
        finished_steps = share(0, rank, world_size)  # no rank reads the file before it is written
    elif checkpoint is None or not checkpoint["finished"]:
        module.frozen = frozen_features(module.network, inputs, config)
        durable = DurableCheckpoint(
            folder.last, seconds=config.trainer.checkpoint_seconds, offset=recorder.offset, commit=recorder.commit
        )
        pruning = [Pruning(ask)] if ask is not None else []
        trainer = make_trainer(config, plan, [WeightAverage(), clock, best, durable, *pruning])
        samples, val = objective.training_samples(config), objective.rows("val")
        trainer.fit(
            module,
            EpochLoader(samples, plan, config.trainer.workers, pin_memory=config.trainer.accelerator == "gpu"),
            objective.validation_batches(val[shard(len(val), rank, world_size)], plan.batch_size),
            ckpt_path=folder.checkpoint,
            weights_only=True,
        )
        finished_steps = trainer.global_step
    else:
        finished_steps = checkpoint["global_step"]
        module.load_state_dict(checkpoint["state_dict"])
        clock.load_state_dict(checkpoint["callbacks"]["MetricRows"])
        best.load_state_dict(checkpoint["callbacks"]["BestWeights"])
    measured = objective.measure(folder.best, module.selected, config, plan)
    net = module.selected.to(device_of(config))
    found = measured.metrics | cost_metrics(net) | {"cost/epochs": finished_steps / plan.steps_per_epoch}
    if best.reached is not None:
        found["val/target_reached"] = float(best.reached)
    if finished_steps:
        images = finished_steps * plan.batch_size
        work = None if module.growth is None else module.growth.mean_gmacs(net, finished_steps)
        found |= clock_metrics(net, images, clock.train_seconds, config.trainer.precision, work)
    recorder.finish(replace(measured, metrics=found), finished_steps)
    return found
