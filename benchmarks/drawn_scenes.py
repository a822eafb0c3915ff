"""The embedded scenes with what is known of their figures, for benchmarks of what finds limbs."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from figleaf.data.decode import decode
from figleaf.data.sources import scenes_manifest
from figleaf.progress import track
from limb_truth import Limb, trunk_axes, visible_limbs

Mask = NDArray[np.bool_]
_ROWS = 50  # of a call
T = TypeVar("T")


class DrawnScenes:
    """Scenes of 96 px, made in `folder` where they are not there yet; a scene is called by its row."""

    def __init__(self, folder: Path, *, count: int = 2000, seed: int = 0) -> None:
        self.manifest = scenes_manifest(folder, count=count, seed=seed, size=96)
        with np.load(self.manifest.root / "figures.npz") as stored:
            self.figures = {name: stored[name].astype(np.float64) for name in stored.files}

    def each(self, seen: Callable[["DrawnScenes", int], T], count: int, jobs: int) -> list[T]:
        """What `seen` says of these scenes and each of the first `count` rows, by so many processes."""
        # Few calls of many rows: with each call the scenes are sent to another process
        calls = (delayed(_all)(seen, self, range(start, min(start + _ROWS, count))) for start in range(0, count, _ROWS))
        steps = track(Parallel(jobs, return_as="generator")(calls), "Scenes", -(-count // _ROWS))
        return [one for found in steps for one in found]

    def rows(self, split: str, count: int) -> list[int]:
        """The first `count` scenes of a split."""
        return [int(row) for row in np.flatnonzero(self.manifest.table["split"] == split)[:count]]

    def picture(self, row: int) -> NDArray[np.uint8]:
        """RGB (96, 96, 3)."""
        return decode(self.manifest.root / self.manifest.table["path"].iloc[row])

    def mask(self, row: int) -> Mask:
        """Where bare skin is, (96, 96)."""
        return np.asarray(decode(self.manifest.root / self.manifest.table["mask"].iloc[row])[..., 0] > 127)

    def group(self, row: int) -> str:
        """What must stay in one split or fold."""
        return str(self.manifest.table["group"].iloc[row])

    def is_unsafe(self, row: int) -> bool:
        """Whether a figure is more bare than dressed."""
        return self.manifest.table["label"].iloc[row] in self.manifest.unsafe

    def limbs(self, row: int) -> list[Limb]:
        """The visible limb segments of all figures."""
        known = (self.figures[name][row] for name in ("joints", "radius_px", "tilt_deg", "visible"))
        return visible_limbs(*known, self.mask(row))

    def trunks(self, row: int) -> list[Any]:
        """Neck, pelvis and half-width of each figure."""
        return trunk_axes(self.figures["joints"][row], self.figures["radius_px"][row])


def _all(seen: Callable[[DrawnScenes, int], T], drawn: DrawnScenes, rows: Iterable[int]) -> list[T]:
    return [seen(drawn, row) for row in rows]
