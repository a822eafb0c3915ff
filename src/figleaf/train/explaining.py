"""How true the class maps of a network are, as measures of its predictions: see `figleaf.explain.faithfulness`."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages
from figleaf.data.manifest import Manifest
from figleaf.data.masks import Masks
from figleaf.evaluate.predictions import Predictions
from figleaf.explain.cam import METHODS
from figleaf.explain.faithfulness import MEASURES, best_threshold, map_measures, maps_of, pixel_f1
from figleaf.explain.sanity import cascade
from figleaf.progress import counting
from figleaf.vgg.network import VGG

_THRESHOLD_ON = 256  # pictures of val: a threshold of pixels needs no more
_SANITY_ON = 8  # pictures whose maps are made again for every layer that forgets


def with_map_measures(
    predictions: Predictions,
    net: VGG,
    manifest: Manifest,
    pictures: DecodedImages,
    masks: Masks,
    method: str,
    seed: int,
) -> tuple[Predictions, dict[str, float]]:
    """The predictions with `MEASURES` of the maps by `method` for the unsafe class, and metrics of the maps.

    Measured are the unsafe pictures of test that were scored, or of all where there is no test; other rows have none.
    `pictures` and `masks` are the manifest's, at the network's input size. The metrics: `test/map_pixel_f1`, how good a
    mask the map is that an image-level network gives for free, the map times P(unsafe) against the masks of all test
    pictures at a threshold chosen on val; `sanity/rank` and `sanity/ssim`, how much the maps of the network stay like
    its own while layer after layer is made random, on average over the layers (absent for the floors).
    """
    unsafe = predictions.classes.index(next(name for name in predictions.classes if name in predictions.unsafe))
    row_of = {path: row for row, path in enumerate(manifest.table["path"])}
    rows = np.array([row_of[path] for path in predictions.table["sample_id"]])
    split = predictions.table["split"].to_numpy()
    measured = predictions.is_scored & predictions.is_unsafe
    if (split == "test").any():
        measured &= split == "test"
    places = np.flatnonzero(measured)
    columns = {name: np.full(len(predictions), np.nan) for name in MEASURES}
    rgb_u8 = np.asarray(pictures.pixels[rows[places]])
    with counting(f"{method} maps", 2 * len(places)) as done:
        maps = maps_of(net, rgb_u8, unsafe, method, seed=seed, on_done=done)
        skin = _skin(masks, rows[places])
        found = map_measures(net, rgb_u8, maps, unsafe, skin, seed=seed, on_done=done)
    for name, values in found.items():
        columns[name][places] = values
    metrics = _free_masks(predictions, net, rows, split, pictures, masks, method, seed, unsafe)
    if method in METHODS and len(places):
        few = rgb_u8[np.unique(np.linspace(0, len(places) - 1, _SANITY_ON).astype(int))]
        stages = cascade(net, few, unsafe, method, seed=seed)
        metrics["sanity/rank"] = float(np.mean([stage.rank for stage in stages]))
        metrics["sanity/ssim"] = float(np.mean([stage.ssim for stage in stages]))
    return replace(predictions, table=predictions.table.assign(**columns)), metrics


def _free_masks(
    predictions: Predictions,
    net: VGG,
    rows: NDArray[np.intp],
    split: NDArray[np.object_],
    pictures: DecodedImages,
    masks: Masks,
    method: str,
    seed: int,
    unsafe: int,
) -> dict[str, float]:
    """The F1 of pixels on test; empty where val or test has no masks."""
    usable = predictions.is_scored & masks.usable[rows]
    parts = {}
    for name in ("val", "test"):
        places = np.flatnonzero(usable & (split == name))
        if name == "val" and len(places) > _THRESHOLD_ON:
            places = places[np.linspace(0, len(places) - 1, _THRESHOLD_ON).astype(int)]
        if not len(places):
            return {}
        shown = maps_of(net, np.asarray(pictures.pixels[rows[places]]), unsafe, method, seed=seed)
        score = predictions.table["score"].to_numpy()[places].astype(np.float32)
        parts[name] = (shown * score[:, None, None], masks.is_skin(rows[places]))
    threshold = best_threshold(*parts["val"])
    return {"val/map_threshold": threshold, "test/map_pixel_f1": pixel_f1(*parts["test"], threshold)}


def _skin(masks: Masks, rows: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    """The masks (N, S, S), empty for pictures without one; None where there are none at all."""
    usable = masks.usable[rows]
    if not usable.any():
        return None
    some = masks.is_skin(rows[usable])
    found = np.zeros((len(rows), *some.shape[1:]), bool)
    found[usable] = some
    return found
