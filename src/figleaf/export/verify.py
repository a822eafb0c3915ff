"""Whether the files of an exported folder still answer alike, on this machine."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError, RuntimeMissingError
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
        return self.parity.max_probability_diff <= (1.0 if self.held is None else self.held)  # infinity is above both


def answers(
    folder: Path, formats: Sequence[str], lossy: Collection[str], pictures: Callable[[int], NDArray[np.uint8]]
) -> dict[str, Answers]:
    """Score the pictures with each of `formats` and compare with the first of them that can be read.

    `pictures` gives them, (N, S, S, 3), for an input size S; `lossy` are the formats that lose something. What cannot
    be read has a reason instead of a comparison: its runtime is missing, or it is damaged, or of another network.
    """
    found: dict[str, Answers] = {}
    reference: Scorer | None = None
    for name in formats:
        held = None if name in lossy else SCORE_TOLERANCE
        try:
            scorer = FORMATS[name].read(folder / FORMATS[name].place)
        except FigleafError as error:
            found[name] = Answers(None, held, str(error), absent=isinstance(error, RuntimeMissingError))
            continue
        reference = reference or scorer
        if (scorer.classes, scorer.input_size) != (reference.classes, reference.input_size):
            found[name] = Answers(None, held, f"of another network than {next(iter(found), name)}")
            continue
        compared = compare(reference, scorer, pictures(scorer.input_size), getattr(scorer, "threshold", None))
        found[name] = Answers(compared, held)
    return found


def formats_in(folder: Path, files: Collection[str]) -> tuple[list[str], set[str]]:
    """The formats that are in `folder` with nothing but `files`, POSIX paths in it, and which of them lose something.

    What loses nothing comes first.
    """

    def known(place: Path) -> bool:
        inside = [path for path in place.rglob("*") if not path.is_dir()] if place.is_dir() else [place]
        return place.exists() and all(path.relative_to(folder).as_posix() in files for path in inside)

    there = [name for name, form in FORMATS.items() if known(folder / form.place)]
    lossy = {name for name in there if FORMATS[name].lossy}
    if "tfjs" in there and PARITY in files:
        # Its kernels lose something or not, as they are stored: the export noted which.
        try:
            report: Any = json.loads((folder / PARITY).read_text(encoding="utf-8"))
            lossy -= {"tfjs"} - set(report.get("probability_tolerance", {}))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FigleafError(f"{folder / PARITY}: no report of an export ({error}); export the run again") from error
    return sorted(there, key=lambda name: name in lossy), lossy
