"""The Lightning trainer of a run: devices, precision, accumulation; everything else is ours and switched off there."""

import logging
import sys
import warnings

import pytorch_lightning as pl
import torch
import torch.utils.deterministic
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.strategies import DDPStrategy

from figleaf.config import TrainConfig
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.train.callbacks import AtomicCheckpoints, OwnSigterm

# Lightning announces devices and asks for more workers at every start; what matters is said by us.
_NOISE = (
    ".*does not have many workers.*",
    ".*num_workers.*",
    ".*GPU available but not used.*",
    ".*log_every_n_steps.*",
    ".*isinstance.treespec.*",
)


def make_trainer(config: TrainConfig, plan: BatchPlan, callbacks: list[Callback]) -> pl.Trainer:
    """A trainer for `plan`. Raises `FigleafError` when the configuration asks for a device that is not there."""
    t = config.trainer
    if t.accelerator == "gpu" and not torch.cuda.is_available():
        raise FigleafError("trainer.accelerator=gpu: no CUDA device is available here; use trainer=cpu")
    if plan.world_size != t.devices * t.num_nodes:
        raise FigleafError(
            f"trainer.devices={t.devices} on {t.num_nodes} node(s), but {plan.world_size} process(es) were started: "
            "use `figleaf train`, which starts one for each device, or torchrun with figleaf.train.worker"
        )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", pattern)
    # With `deterministic`, torch would fill every new tensor with NaN, a debugging aid that costs 3 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    progress = [RichProgressBar()] if sys.stderr.isatty() and plan.rank == 0 else []
    distributed = plan.world_size > 1
    return pl.Trainer(
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=DDPStrategy() if distributed else "auto",
        # On the CPU, and without batch norm, there is nothing to synchronise; Lightning refuses the former.
        sync_batchnorm=distributed and t.accelerator == "gpu" and config.network.batch_norm,
        precision=t.precision,  # type: ignore[arg-type]  # the configuration allows Lightning's names only
        max_epochs=t.epochs if t.max_steps is None else -1,
        max_steps=-1 if t.max_steps is None else t.max_steps,
        # Fewer steps than an epoch has make a shorter epoch, so that its end is validated and weights are kept.
        limit_train_batches=min(plan.steps_per_epoch, t.max_steps or plan.steps_per_epoch) * plan.accumulate,
        accumulate_grad_batches=plan.accumulate,
        gradient_clip_val=config.optimizer.clip_norm,
        deterministic=t.deterministic,
        benchmark=False,
        callbacks=[OwnSigterm(), *callbacks, *progress],
        # The ranks are started by us. Left to look for itself, Lightning finds SLURM in any job, and would requeue it.
        plugins=[AtomicCheckpoints(), LightningEnvironment()],
        enable_progress_bar=bool(progress),
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
