"""The weights of a finished run measured by another evaluation method: a run of its own, without any training.

What counts as that run is what the same configuration without its `evaluation` gives on the same data. Threshold and
metrics come from predictions by the method alone, on val as on test.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch

from figleaf.config import MethodConfig, ModelConfig, TrainConfig, fingerprint, home
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.evaluate.method import CLEAN, Method, predict_by
from figleaf.evaluate.perturbations import PERTURBATIONS
from figleaf.evaluate.robustness import perturbed, robustness_metrics
from figleaf.evaluate.saved_scorer import scorer_of
from figleaf.files import sha256_file
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store
from figleaf.train.exported import export_to_measure, require_exported
from figleaf.train.folder import RunFolder
from figleaf.train.inputs import Inputs, decode_for, masks_for
from figleaf.train.measure import cost_metrics, final_metrics
from figleaf.train.objective import Measurement
from figleaf.train.records import Recorder
from figleaf.vgg.scorer import TorchScorer

SOURCE_TAG = "figleaf.source_run_id"  # whose weights were measured
_OF_PIXELS = ("single", "dense")  # of a network with a dense head: what marks each pixel of the picture once a view
SEARCH = MethodConfig(method="search")  # no way to score a picture: the network's features are searched


def method_of(config: MethodConfig) -> Method:
    """The method that `config` names. Raises `FigleafError` for a value outside its range."""
    return Method(config.method, tuple(config.scales), config.flip, config.crops, config.aggregate)


def perturbations_of(config: MethodConfig) -> tuple[str, ...]:
    """The perturbations that `config` names; `all` stands for every one.

    Raises `FigleafError` for an unknown one, and for a method that looks at a picture in more than one way.
    """
    if config.perturb and method_of(config) != Method():
        raise FigleafError(f"perturb={config.perturb}: measured by a single view; leave method, scales and flip alone")
    for name in config.perturb:
        if name not in (*PERTURBATIONS, "all"):
            raise FigleafError(f"perturb={config.perturb}: expected all, or some of {', '.join(PERTURBATIONS)}")
    return tuple(PERTURBATIONS) if "all" in config.perturb else tuple(config.perturb)


def require_method(method: MethodConfig, config: TrainConfig) -> None:
    """Raises `FigleafError` when the runs of `config` cannot be measured by `method`."""
    if method.method == SEARCH.method:
        if method != SEARCH:
            raise FigleafError("method=search: takes no other settings, each picture is looked at once as it is")
        if not isinstance(config.model, ModelConfig):
            raise FigleafError("method=search: searches by a network's features, and these runs are of no network")
        return
    perturbations_of(method)
    if method.exported is not None:
        if method != MethodConfig(exported=method.exported):
            raise FigleafError(f"exported={method.exported}: measured by a single view; leave the other settings alone")
        if not isinstance(config.model, ModelConfig):
            raise FigleafError(f"exported={method.exported}: of networks, and these runs are of none")
        require_exported(method.exported, config.model.head)
    if method.explain is not None:
        if method_of(method) != Method() or method.perturb:
            raise FigleafError(
                f"explain={method.explain}: of a single view; leave method, scales, flip and perturb alone"
            )
        if not isinstance(config.model, ModelConfig):
            raise FigleafError(f"explain={method.explain}: class maps are of networks, and these runs are of none")
        from figleaf.explain.faithfulness import require_map  # with SciPy and scikit-learn

        require_map(config.model.head, method.explain)
    method_of(method).sizes(config.model.input_size)


def trained_run(config: TrainConfig, data_hash: str, found: Sequence[FoundRun]) -> FoundRun | None:
    """The finished run among `found`, the newest first, whose weights `config` measures; None when it is not there."""
    wanted = fingerprint(replace(config, evaluation=None), data_hash)
    finished = (run for run in found if run.status == "FINISHED")
    return next((run for run in finished if run.tags.get("figleaf.fingerprint") == wanted), None)


def measure_trained(config: TrainConfig, folder: RunFolder, inputs: Inputs, recorder: Recorder) -> dict[str, float]:
    """Predictions by `config.evaluation` with the weights of the trained run, and metrics from them, recorded.

    `cost/passes` and `cost/gmacs` are those of one picture. `time/scored_per_second` counts pictures of val and test,
    decoded before. A network with a dense head is measured by pixels, too: its maps are averaged over scales and mirror
    images, and the thresholds are the method's own. With `perturb` the test split is scored under those perturbations,
    too; see `figleaf.evaluate.robustness`. With `explain` the class maps are measured, too; see
    `figleaf.train.explaining`. With `exported` a file of the weights answers; see `figleaf.train.exported`. A search is
    measured as in `figleaf.train.searching`. Raises `FigleafError` when the trained run, or its weights, are not in the
    tracker.
    """
    assert config.evaluation is not None, "what this module is for"
    require_method(config.evaluation, config)
    trained = trained_run(config, inputs.data_hash, runs(open_store(config.tracking.uri, home())))
    if trained is None:
        raise FigleafError(
            "the run that is to be measured is not in this tracker: no finished run has its configuration and data; "
            "train it first"
        )
    weights = trained.artifact("model/best.safetensors")
    tags = {SOURCE_TAG: trained.run_id, "figleaf.best_sha256": sha256_file(weights)}
    if config.evaluation == SEARCH:
        from figleaf.train.searching import INDEX, measure_search

        parameters = {"weights": str(weights), "size": config.model.input_size}
        searched = measure_search("vgg", parameters, folder.path / INDEX, inputs, config)
        recorder.start_at(0)
        recorder.measured(searched, 0, tags)
        return searched.metrics
    method, names = method_of(config.evaluation), perturbations_of(config.evaluation)
    # On the CPU the scores of a GPU's run are the same to rounding, and the record says on what they were computed.
    device = "cuda" if config.trainer.accelerator == "gpu" and torch.cuda.is_available() else "cpu"
    scorer = scorer_of(weights, device)
    net = scorer.net if isinstance(scorer, TorchScorer) else None
    of_file: dict[str, float] = {}
    if config.evaluation.exported is not None:
        scorer, of_file = export_to_measure(weights, config.evaluation.exported, inputs)
    decode = partial(decode_for, inputs.manifest, data=config.data, home=home())
    # Before the clock runs.
    pictures = {
        size: inputs.pictures if size == scorer.input_size else decode(size) for size in method.sizes(scorer.input_size)
    }
    start = time.perf_counter()
    predictions = predict_by(
        method,
        scorer,
        inputs.manifest,
        pictures.__getitem__,
        data_hash=inputs.data_hash,
        splits=("val", "test"),
        batch_size=config.optimizer.batch_size,
    )
    seconds = time.perf_counter() - start
    of_maps: dict[str, float] = {}
    if config.evaluation.explain is not None:
        from figleaf.train.explaining import with_map_measures

        assert net is not None, "what require_method has seen to"
        masks = masks_for(inputs.manifest, scorer.input_size, config.data, home())
        explain = config.evaluation.explain
        predictions, of_maps = with_map_measures(
            predictions, net, inputs.manifest, inputs.pictures, masks, explain, config.seed
        )
    found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)
    found |= of_maps
    tables: dict[str, pd.DataFrame] = {}
    if net is not None and net.head == "dense" and method.name in _OF_PIXELS:
        from figleaf.train.measure_pixels import measure_maps

        pixels = [pictures[size].pixels for size in method.sizes(scorer.input_size)]
        plan = BatchPlan(len(inputs.manifest), config.optimizer.batch_size, config.seed)
        of_pixels, _, tables["pixels.csv"] = measure_maps(net, pixels, inputs, config, plan, flip=method.flip)
        found |= of_pixels
    if net is not None:
        passes, gmacs = method.cost(net, pictures[max(pictures)].pixels)
        found |= cost_metrics(net) | {"cost/passes": passes, "cost/gmacs": gmacs}
    else:
        found["cost/megabytes"] = weights.stat().st_size / 1e6
    found |= of_file
    found["time/scored_per_second"] = int(predictions.is_scored.sum()) / seconds
    recorder.start_at(0)
    if names:
        clean = predictions.select(split="test", variant=CLEAN)
        changed = perturbed(scorer, inputs.manifest, clean, names, max_pixels=config.data.max_pixels)
        found |= robustness_metrics(changed, threshold)
        recorder.keep(changed, "robustness.parquet")
    recorder.measured(Measurement(found, predictions, threshold, tables), 0, tags)
    return found
