"""Whether the files of an exported folder still answer alike, on this machine."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.export.bundle import PARITY
from figleaf.export.formats import FORMATS
from figleaf.export.parity import Parity, compare

SCORE_TOLERANCE = 1e-4  # of formats that lose nothing, in probabilities


@dataclass(frozen=True)
class Answers:
    """How a format's answers compare with those of the first: `parity`, or why there are none (`reason`).

    `held` is the greatest difference of a probability that it may have, None for what loses something. `absent` says
    that it could not be read for want of its runtime.
    """

    parity: Parity | None
    held: float | None
    reason: str = ""
    absent: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, as far as it was looked at."""
        if self.parity is None:
            return self.absent
        return self.held is None or self.parity.max_probability_diff <= self.held


def answers(folder: Path, formats: Sequence[str], pictures: Callable[[int], NDArray[np.uint8]]) -> dict[str, Answers]:
    """Score the pictures with each of `formats` and compare with the first of them that can be read.

    `pictures` gives them, (N, S, S, 3), for an input size S. A format that cannot be read here, as its runtime is
    missing, has a reason instead of a comparison; so have damaged ones.
    """
    lossy = _lossy(folder)
    found: dict[str, Answers] = {}
    reference: Scorer | None = None
    for name in formats:
        held = None if name in lossy else SCORE_TOLERANCE
        try:
            scorer = FORMATS[name].read(folder / FORMATS[name].place)
        except FigleafError as error:
            found[name] = Answers(None, held, str(error), absent="install it with" in str(error))
            continue
        reference = reference or scorer
        compared = compare(reference, scorer, pictures(scorer.input_size), getattr(scorer, "threshold", None))
        found[name] = Answers(compared, held)
    return found


def formats_in(folder: Path, files: Collection[str]) -> list[str]:
    """The formats that are in `folder` with nothing but `files`, POSIX paths in it; what loses nothing comes first."""

    def known(place: Path) -> bool:
        inside = [path for path in place.rglob("*") if not path.is_dir()] if place.is_dir() else [place]
        return place.exists() and all(path.relative_to(folder).as_posix() in files for path in inside)

    lossy = _lossy(folder)
    there = [name for name, form in FORMATS.items() if known(folder / form.place)]
    return sorted(there, key=lambda name: name in lossy)


def _lossy(folder: Path) -> set[str]:
    known = {name for name, form in FORMATS.items() if form.lossy}
    try:
        report: Any = json.loads((folder / PARITY).read_text(encoding="utf-8"))
        # tfjs loses something or not, as its kernels are: the export noted which.
        return {name for name in known if name != "tfjs" or name in report.get("probability_tolerance", {})}
    except (OSError, ValueError, AttributeError, TypeError):
        return known
