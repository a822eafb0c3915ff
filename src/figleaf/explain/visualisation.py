"""A network and a picture as a folder: pictures, manifests and one page that opens anywhere.

The names of folders and manifests are those of the TF.js example visualize-convnet: `filters/` with
`filters-manifest.json`, `activation/` with `activation-manifest.json` and the overlays of its maps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figleaf.explain.activations import Tiles
from figleaf.explain.cam import METHODS, ClassMaps
from figleaf.explain.filters import FilterPictures
from figleaf.explain.html import as_data, render
from figleaf.files import atomic_path, explained, write_text

OPACITY = 0.6  # of a map over its picture
PAGE, FILTERS, ACTIVATION = "index.html", "filters", "activation"
_TILE = 128  # longest side of the copies in the page, in pixels; the files beside it are whole


@dataclass(frozen=True, eq=False)
class Network:
    """What the page says of the network."""

    name: str  # of its run or file
    description: str
    classes: tuple[str, ...]
    unsafe: tuple[str, ...]
    input_size: int
    threshold: float | None
    data: str | None  # what it was trained on
    is_proxy: bool  # whether these data stand in for the subject


@dataclass(frozen=True, eq=False)
class Look:
    """What a network made of one picture: RGB as it sees it (S, S, 3), its name, what it says, what it did inside."""

    name: str
    rgb_u8: NDArray[np.uint8]
    probabilities: tuple[float, ...]
    score: float | None
    tiles: Sequence[Tiles]
    maps: Sequence[ClassMaps]


def overlay(rgb_u8: NDArray[np.uint8], shown: NDArray[np.float32], opacity: float = OPACITY) -> NDArray[np.uint8]:
    """A map (S, S) in 0-1 over its picture (S, S, 3), in cividis: as even with any colour vision as without."""
    import matplotlib as mpl

    colors = 255 * mpl.colormaps["cividis"](shown)[..., :3]
    return np.rint((1 - opacity) * rgb_u8 + opacity * colors).astype(np.uint8)


def write_visualisation(
    out: Path,
    network: Network,
    filters: Sequence[FilterPictures],
    look: Look | None,
    *,
    settings: Mapping[str, Any],
    order: str,
) -> list[str]:
    """Write the folder `out`, in place of what an earlier call wrote there; gives its files' names, the page last.

    `settings` says how the filters were climbed, `order` how channels were chosen. Files of other names stay.
    """
    files: list[str] = []

    def save(pixels: NDArray[np.uint8], name: str) -> str:
        with atomic_path(out / name) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
        files.append(name)
        return name

    with explained(out):
        for folder in (FILTERS, ACTIVATION):
            (out / folder).mkdir(parents=True, exist_ok=True)
        _forget(out)
        shown_filters = [_filter_row(found, save) for found in filters]
        _write_json(
            out / FILTERS / "filters-manifest.json", {"settings": dict(settings), "layers": shown_filters}, files
        )
        shown_look = None if look is None else _look(network, look, save)
        if shown_look is not None:
            _write_json(out / ACTIVATION / "activation-manifest.json", shown_look, files)
        rows = [_with_previews(out, row) for row in shown_filters]
        seen = None if shown_look is None else _look_with_previews(out, shown_look)
        page = render(
            "visualisation.html.j2",
            network=network,
            filters=rows,
            look=seen,
            settings=settings,
            order=order,
            methods=METHODS,
        )
        write_text(out / PAGE, page)
    return [*files, PAGE]


def _filter_row(found: FilterPictures, save: Any) -> dict[str, Any]:
    paths = [
        save(picture, f"{FILTERS}/{found.layer}_{number}.png")
        for number, picture in zip(found.filters, found.pictures, strict=True)
    ]
    return {
        "layerName": found.layer,
        "filePaths": paths,
        "filters": list(found.filters),
        "responses": [round(float(value), 6) for value in found.response],
        "dead": [int(number) for number, dead in zip(found.filters, found.dead, strict=True) if dead],
    }


def _look(network: Network, look: Look, save: Any) -> dict[str, Any]:
    """The activation manifest."""
    layers = []
    for tiles in look.tiles:
        pictures = zip(tiles.channels, tiles.tiles, strict=True)
        layers.append(
            {
                "layerName": tiles.layer,
                "filePaths": [save(tile, f"{ACTIVATION}/{tiles.layer}_{number}.png") for number, tile in pictures],
                "filters": list(tiles.channels),
                "dims": list(tiles.tiles.shape[1:]),
                "peaks": [round(float(value), 6) for value in tiles.peak],
            }
        )
    size = look.rgb_u8.shape[0]
    maps = []
    for found in look.maps:
        (shown,) = found.shown(size)
        file = f"{ACTIVATION}/map_{found.method.replace('+', 'p')}.png"
        maps.append(
            {
                "method": found.method,
                "className": network.classes[found.classes[0]],
                "silent": bool(found.silent[0]),
                "filePath": save(overlay(look.rgb_u8, shown), file),
            }
        )
    most = int(np.argmax(look.probabilities))
    return {
        "name": look.name,
        "filePath": save(look.rgb_u8, f"{ACTIVATION}/input.png"),
        "classNames": list(network.classes),
        "probScores": [round(value, 6) for value in look.probabilities],
        "topClass": network.classes[most],
        "topProb": round(look.probabilities[most], 6),
        "score": None if look.score is None else round(look.score, 6),
        "maps": maps,
        "layers": layers,
    }


def _forget(out: Path) -> None:
    """Remove the pictures that an earlier manifest names: another picture's activations must not stay beside these."""
    for manifest in (out / FILTERS / "filters-manifest.json", out / ACTIVATION / "activation-manifest.json"):
        try:
            written = json.loads(manifest.read_text(encoding="utf-8"))
            named = [path for layer in written["layers"] for path in layer["filePaths"]]
            named += [one["filePath"] for one in written.get("maps", [])]
            named += [written["filePath"]] if "filePath" in written else []
        except (OSError, ValueError, KeyError, TypeError):
            continue
        manifest.unlink()
        for name in named:
            parts = str(name).split("/")
            if len(parts) == 2 and parts[0] in (FILTERS, ACTIVATION) and parts[1].endswith(".png"):
                (out / parts[0] / parts[1]).unlink(missing_ok=True)


def _write_json(path: Path, value: Mapping[str, Any], files: list[str]) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=True) + "\n")
    files.append(f"{path.parent.name}/{path.name}")


def _with_previews(out: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "previews": [_preview(out / path) for path in row["filePaths"]]}


def _look_with_previews(out: Path, look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **look,
        "preview": _preview(out / look["filePath"], whole=True),
        "maps": [{**one, "preview": _preview(out / one["filePath"], whole=True)} for one in look["maps"]],
        "layers": [_with_previews(out, row) for row in look["layers"]],
    }


def _preview(path: Path, *, whole: bool = False) -> str:
    """The picture as an address, no larger than a tile unless `whole`."""
    with Image.open(path) as image:
        return as_data(image, None if whole else _TILE)
