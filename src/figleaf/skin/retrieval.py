"""Image search by example: a collection's codes, its samples, and the pictures nearest to a new one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages
from figleaf.data.decode import RgbU8, decode, resize
from figleaf.data.manifest import Manifest, files_in, member_column
from figleaf.data.member import SHARD, File
from figleaf.errors import FigleafError
from figleaf.skin.codes import Code, ColorHistogram, DctCode, Thumbnail
from figleaf.skin.neighbours import Codes, NearestGraph, exact
from figleaf.skin.options import require_options

COLUMNS = ("path", "label", "split", "group", "slice", "content_sha256")
# Up to here comparing with everything takes a few milliseconds, and is right.
_EXACT_UP_TO = 20_000

Search = Literal["auto", "exact", "approximate"]


def _regions(**parameters: Any) -> Code:
    from figleaf.skin.bag_of_regions import BagOfRegions  # takes scikit-image and a second

    return BagOfRegions(**parameters)


def _vgg(**parameters: Any) -> Code:
    from figleaf.skin.vgg_code import VggCode  # takes PyTorch and seconds

    return VggCode(**parameters)


# What a picture is abstracted to, by the name that users give it.
FEATURES: Mapping[str, Callable[..., Code]] = {
    "regions": _regions,
    "vgg": _vgg,
    "histogram": ColorHistogram,
    "thumbnail": Thumbnail,
    "dct": DctCode,
}


def parameters_of(
    features: str, options: Mapping[str, Any], *, size: int, weights: str = "none", random_state: int = 0
) -> dict[str, Any]:
    """What the code of these features is built with: its own `options`, and of the rest what it has a use for.

    Raises `FigleafError` for an unknown option, and when `weights` are lacking, or given to what reads none.
    """
    known = FEATURES[features]().get_params(deep=False)
    if ("weights" in known) != (weights != "none"):
        expected = "a file of convolutions" if "weights" in known else f"none, since {features} reads no network"
        raise FigleafError(f"model.weights={weights}: expected {expected}")
    given = {"size": size, "weights": weights, "random_state": random_state}
    require_options(features, options, {name: value for name, value in known.items() if name not in given})
    return {**options, **{name: value for name, value in given.items() if name in known}}


@dataclass(frozen=True)
class Answer:
    """One found picture: its row of the index, and its Euclidean distance from the query's code."""

    row: int
    distance: float


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """N pictures that can be searched.

    `features` is a name of `FEATURES`, `code` its fitted transformer, `codes` float32 (N, d). `table` has the str
    `COLUMNS`, a row a picture; paths are relative to `root`, as in a manifest. `classes` are all labels, in order.
    """

    features: str
    code: Code
    codes: Codes
    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    data_name: str
    data_hash: str
    load_graph: Callable[[], NearestGraph] | None = None

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def graph(self) -> NearestGraph:
        """The graph for approximate search: the stored one, or built now."""
        return self.load_graph() if self.load_graph else NearestGraph.build(self.codes)

    def encode(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """The code (d,) of one picture of any size."""
        side = self.code.size
        fitting = rgb_u8 if rgb_u8.shape[:2] == (side, side) else resize(rgb_u8, side)
        found: NDArray[np.float32] = self.code.transform([fitting])[0].astype(np.float32)
        return found

    def nearest(self, code: NDArray[np.floating], count: int, search: Search = "auto") -> list[Answer]:
        """The `count` nearest pictures to a code, nearest first."""
        if search == "exact" or (search == "auto" and len(self) <= _EXACT_UP_TO):
            rows, distances = exact(self.codes, code, count)
        else:
            rows, distances = self.graph.search(self.codes, code, count)
        return [Answer(int(row), float(distance)) for row, distance in zip(rows, distances, strict=True)]

    def path(self, row: int) -> File:
        """The file of a picture; a member where the pictures lie in shards."""
        (file,) = files_in(self.table.iloc[[row]], self.root, "path")
        assert file is not None, "a sample has a path"
        return file

    def picture(self, row: int) -> RgbU8:
        """The picture of a row, from its file. Raises `DecodeError` when it is not there any more."""
        return decode(self.path(row))


def build(
    manifest: Manifest,
    pictures: DecodedImages,
    features: str,
    parameters: Mapping[str, Any],
    *,
    data_hash: str,
    among: NDArray[np.bool_] | None = None,
) -> ImageIndex:
    """The index of the readable pictures of `manifest`, which `pictures` holds at the code's size, in its order.

    Of all of them, or of those `among` (N,) them. `parameters` are the code's. Raises `FigleafError` for unknown
    features and when nothing can be read.
    """
    if features not in FEATURES:
        raise FigleafError(f"features={features}: expected one of {', '.join(FEATURES)}")
    chosen = np.ones(len(manifest), bool) if among is None else among
    readable = np.flatnonzero(pictures.usable & chosen)
    if not len(readable):
        raise FigleafError(
            f"{manifest.name}: none of its {int(chosen.sum())} pictures can be read; see `figleaf data check`"
        )
    code = FEATURES[features](**parameters)
    # Row by row from the memory map: a copy of all of them may not fit.
    codes = code.fit_transform([np.asarray(pictures.pixels[row]) for row in readable])
    table = manifest.table.assign(content_sha256=list(pictures.content_sha256))
    columns = [*COLUMNS, *(column for column in (SHARD, member_column("path")) if column in table)]
    return ImageIndex(
        features=features,
        code=code,
        codes=np.ascontiguousarray(codes, np.float32),
        table=table.iloc[readable][columns].reset_index(drop=True),
        root=manifest.root,
        classes=manifest.classes,
        data_name=manifest.name,
        data_hash=data_hash,
    )
