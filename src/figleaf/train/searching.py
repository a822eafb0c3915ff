"""Search by example as a run: train is indexed, val and test are searched for in it, and every answer is measured.

What pictures are compared by is told by `model=search_...`; or it is the features of a network that another run has
trained (`evaluation.method=search`).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.config import SearchConfig, TrainConfig
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions, samples_of
from figleaf.evaluate.retrieval import RECALL_AT, VOTERS, Asked, ask
from figleaf.skin.options import called_options
from figleaf.skin.retrieval import ImageIndex, build, parameters_of
from figleaf.skin.retrieval_files import load_index, save_index
from figleaf.train.folder import RunFolder
from figleaf.train.inputs import Inputs
from figleaf.train.measure import final_metrics
from figleaf.train.objective import Measurement
from figleaf.train.records import Recorder

INDEX = "index"  # in the run's folder: what `figleaf similar IMAGE --in` takes
# Of each answer, under these names: `label_map` counts pictures of the query's label, `slice_map` those of its slice.
_MEASURES = {"map": "map", "precision@10": "precision_at_10", "chance": "chance"}


def index_train(config: TrainConfig, folder: RunFolder, inputs: Inputs, recorder: Recorder) -> dict[str, float]:
    """Index train by what `config.model` abstracts a picture to, and measure the answers; see `measure_search`.

    Raises `FigleafError` for options that the features do not have, and for several devices.
    """
    search = config.model
    assert isinstance(search, SearchConfig), "what this function is for"
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise FigleafError(f"trainer.devices={config.trainer.devices}: an index is made by one process; pass 1")
    parameters = parameters_of(
        search.features,
        search.options,
        size=search.input_size,
        weights=search.weights,
        random_state=config.seed,
    )
    measured = measure_search(search.features, parameters, folder.path / INDEX, inputs, config)
    recorder.start_at(0)
    recorder.measured(measured, 0, {})
    return measured.metrics


def measure_search(
    features: str, parameters: Mapping[str, Any], place: Path, inputs: Inputs, config: TrainConfig
) -> Measurement:
    """Index train in the folder `place`, and search in it for every picture of val and test.

    Each prediction holds, as measures, average precision and precision at 10 among the pictures of train, with the
    query's label or its slice as what is looked for, and the share of train that is. Its score is a vote of the ten
    nearest. A picture of the query's own group, or a copy of the query, is no answer. `time/...` is this machine's.
    """
    manifest, pictures = inputs.manifest, inputs.pictures
    split = manifest.table["split"]
    inputs.rows("train")  # says what is wrong when there is none
    started = time.perf_counter()
    with called_options(parameters):
        made = build(
            manifest,
            pictures,
            features,
            parameters,
            data_hash=inputs.data_hash,
            among=(split == "train").to_numpy(),
        )
    seconds = time.perf_counter() - started
    index = load_index(save_index(made, place))  # what is measured is what was kept
    wanted = split.isin(["val", "test"]).to_numpy()
    asked = ask(index, manifest, pictures, wanted)
    predictions = _predictions(asked, index, np.flatnonzero(wanted), inputs)
    found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)
    found |= {
        f"cost/approximate_recall_at_{RECALL_AT}": asked.recall,
        "cost/dimensions": float(index.codes.shape[1]),
        "cost/megabytes": index.codes.nbytes / 1e6,
        "time/index_seconds": seconds,
        "time/ms_to_encode": asked.ms["encode"],
        "time/ms_to_search": asked.ms["exact"],
    }
    return Measurement(found, predictions, threshold)


def _predictions(asked: Asked, index: ImageIndex, chosen: NDArray[np.intp], inputs: Inputs) -> Predictions:
    """A row for each of the manifest's rows `chosen`, unreadable ones included."""
    manifest, pictures = inputs.manifest, inputs.pictures
    classes = len(index.classes)
    logits = np.full((len(manifest), classes), np.nan, np.float32)
    # Laplace's rule: a class that none of the ten nearest has is unlikely, not impossible.
    logits[asked.rows] = np.log((asked.votes + 1.0) / (asked.votes.sum(axis=1, keepdims=True) + classes))
    measures = {}
    for criterion, metrics in asked.metrics.items():
        for name, kept in _MEASURES.items():
            of_all = np.full(len(manifest), np.nan)
            of_all[asked.rows] = metrics.named[name]
            measures[f"{criterion.removeprefix('same_')}_{kept}"] = of_all[chosen]
    return Predictions.from_logits(
        samples_of(manifest, pictures.content_sha256).iloc[chosen],
        logits[chosen],
        classes=index.classes,
        unsafe=manifest.unsafe,
        data_name=manifest.name,
        data_hash=inputs.data_hash,
        errors=[pictures.errors[row] for row in chosen],
        variant=f"vote-of-{VOTERS}",
        measures=measures,
    )
