"""Evaluation methods: a single view, dense, multi-crop, both, or boxes; at several scales, with mirror images.

The first four are those of Simonyan & Zisserman (2015), sections 3.2 and 4.1 to 4.3. Class scores are averaged within a
score map, softmax posteriors everywhere else: over crops, mirror images and scales, and between dense and multi-crop
evaluation. The others show the network boxes of a picture: sliding windows, region proposals, regions of skin; there
the probabilities of the boxes are aggregated by their maximum or otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.crops import CropScorer, MirrorScorer, crop_corners
from figleaf.evaluate.posteriors import average
from figleaf.evaluate.predictions import Predictions, predict
from figleaf.evaluate.scorer import Scorer
from figleaf.skin.boxes import AGGREGATES

if TYPE_CHECKING:
    from figleaf.data.cache import DecodedImages
    from figleaf.data.manifest import Manifest
    from figleaf.vgg.network import VGG

# A method's name, and what it averages at each scale.
TECHNIQUES = {
    "single": ("single",),
    "dense": ("dense",),
    "multi_crop": ("multi_crop",),
    "dense_multi_crop": ("dense", "multi_crop"),
    "windows": ("windows",),
    "proposals": ("proposals",),
    "skin_regions": ("skin_regions",),
}
_OF_BOXES = ("windows", "proposals", "skin_regions")
_COUNTED = 200  # pictures over which the number of boxes is averaged
_LARGEST_FACTOR = 8.0
_SMALLEST_PIXELS = 32.0
_MOST_CROPS = 15  # a side: 225 passes a picture and scale
CLEAN = "clean"  # the variant of predictions by a single view


@dataclass(frozen=True)
class Method:
    """How a network is asked about a picture.

    `scales` are the sides of the pictures, Q in the paper: factors of the network's input size (1 to 8), or pixels (32
    and more). `flip` adds the mirror image of every view. `crops` is a side of the grid of multi-crop evaluation,
    `aggregate` what is made of the boxes' probabilities: max, top3, mean or noisy_or.

    Raises `FigleafError` for a value outside its range.
    """

    name: str = "single"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crops: int = 5
    aggregate: str = "max"

    def __post_init__(self) -> None:
        if self.name not in TECHNIQUES:
            raise FigleafError(f"method={self.name}: expected one of {', '.join(TECHNIQUES)}")
        if not 1 <= self.crops <= _MOST_CROPS:
            raise FigleafError(f"crops={self.crops}: expected 1 to {_MOST_CROPS}, the side of the grid")
        if self.aggregate not in AGGREGATES:
            raise FigleafError(f"aggregate={self.aggregate}: expected one of {', '.join(AGGREGATES)}")
        if self.aggregate != "max" and not set(TECHNIQUES[self.name]) & set(_OF_BOXES):
            raise FigleafError(
                f"aggregate={self.aggregate}: method={self.name} shows no boxes; it is for {', '.join(_OF_BOXES)}"
            )
        if not self.scales:
            raise FigleafError("scales=[]: expected at least one, such as [1.0]")
        for scale in self.scales:
            if not (1 <= scale <= _LARGEST_FACTOR or (scale >= _SMALLEST_PIXELS and float(scale).is_integer())):
                raise FigleafError(
                    f"scales={_listed(self.scales)}: {scale:g} is neither a factor of the input size, 1 to "
                    f"{_LARGEST_FACTOR:g}, nor a number of pixels, {_SMALLEST_PIXELS:g} or more"
                )

    def sizes(self, input_size: int) -> tuple[int, ...]:
        """The sides of the pictures in pixels, for a network that was trained on `input_size`.

        Raises `FigleafError` when one is too small for the network, when two are the same, and when one does not suit
        the method.
        """
        sizes = tuple(round(s * input_size) if s <= _LARGEST_FACTOR else int(s) for s in self.scales)
        for size, scale in zip(sizes, self.scales, strict=True):
            where = f"scales={_listed(self.scales)}: {scale:g}"
            if size < input_size:
                raise FigleafError(f"{where} is less than the {input_size} pixels the network was trained for")
            if sizes.count(size) > 1:
                raise FigleafError(f"{where} is there twice: pictures of {size} pixels for this network")
            if self.name == "single" and size != input_size:
                raise FigleafError(
                    f"{where}: method=single shows the network one picture of {input_size} pixels; "
                    "use method=dense or method=multi_crop for larger ones, or scales=[1.0]"
                )
            if "dense" in TECHNIQUES[self.name]:
                from figleaf.vgg.dense import require_dense_size

                require_dense_size(input_size, size)
        return sizes

    def variant(self, input_size: int) -> str:
        """What predictions by this method are called, such as `crops5x5-q64+96-flip`; `clean` for a single view."""
        sizes = "+".join(map(str, self.sizes(input_size)))
        words = {"single": "single", "dense": "dense", "multi_crop": f"crops{self.crops}x{self.crops}"}
        words |= {technique: f"{technique}-{self.aggregate}" for technique in _OF_BOXES}
        name = "+".join(words[technique] for technique in TECHNIQUES[self.name])
        if self.name == "single":
            return "single-flip" if self.flip else CLEAN
        return f"{name}-q{sizes}" + ("-flip" if self.flip else "")

    def scorers(self, scorer: Scorer) -> list[Scorer]:
        """The scorers whose mean posterior is the answer: for every scale one, or two for dense and multi-crop.

        Raises `FigleafError` as `sizes` does, and for dense evaluation of what takes pictures of one size only.
        """
        found: list[Scorer] = []
        for technique, size in self._steps(scorer.input_size):
            if technique == "dense":
                one = _dense(scorer, size, self)
            elif technique in _OF_BOXES:
                one = _of_boxes(scorer, technique, size, self)
            else:
                one = scorer if technique == "single" else CropScorer(scorer, size, self.crops)
            found.append(MirrorScorer(one) if self.flip else one)
        return found

    def cost(self, net: "VGG", rgb_u8: NDArray[np.uint8] | None = None) -> tuple[float, float]:
        """Forward passes for one picture, and their multiply-accumulates in billions.

        Methods of boxes need some pictures (N, H, W, 3), over which the number of boxes is averaged.
        """
        from figleaf.vgg.cost import dense_gmacs, gmacs

        passes, macs = 0.0, 0.0
        for technique, size in self._steps(net.input_size):
            crops = 1.0
            if technique == "multi_crop":
                crops = len(crop_corners(size, net.input_size, self.crops)) ** 2
            elif technique in _OF_BOXES:
                assert rgb_u8 is not None, "what the docstring asks for"
                crops = _mean_boxes(technique, rgb_u8)
            passes += crops
            macs += dense_gmacs(net, size) if technique == "dense" else crops * gmacs(net)
        views = 2 if self.flip else 1
        return views * passes, views * macs

    def _steps(self, input_size: int) -> Iterator[tuple[str, int]]:
        for size in self.sizes(input_size):
            for technique in TECHNIQUES[self.name]:
                yield technique, size


def predict_by(
    method: Method,
    scorer: Scorer,
    manifest: "Manifest",
    pictures: "Callable[[int], DecodedImages]",
    *,
    data_hash: str,
    splits: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Predictions:
    """Score every sample of `manifest` (of its `splits`) by `method`; see `predict`.

    `pictures(size)` gives the whole manifest's pictures at `size` squared. Raises `FigleafError` as `Method.scorers`
    does, before any picture is asked for, and as `predict` does.
    """
    variant = method.variant(scorer.input_size)
    scorers = method.scorers(scorer)
    return average(
        [
            predict(
                one,
                manifest,
                pictures(one.input_size),
                data_hash=data_hash,
                splits=splits,
                batch_size=batch_size,
                variant=variant,
            )
            for one in scorers
        ]
    )


def _dense(scorer: Scorer, size: int, method: Method) -> Scorer:
    from figleaf.skin.scorer import SkinScorer
    from figleaf.vgg.dense import DenseScorer
    from figleaf.vgg.scorer import TorchScorer

    if isinstance(scorer, SkinScorer):
        raise FigleafError(
            f"method={method.name}: only a network has an fc head that becomes convolutions; show the skin system "
            "boxes: method=windows, proposals, skin_regions or multi_crop"
        )
    if not isinstance(scorer, TorchScorer):
        raise FigleafError(
            f"method={method.name}: an exported file takes pictures of {scorer.input_size} pixels and no others; "
            "use method=multi_crop, or give the run, or its .safetensors file, in the place of the exported file"
        )
    return DenseScorer(scorer, size)


def _of_boxes(scorer: Scorer, technique: str, size: int, method: Method) -> Scorer:
    from figleaf.evaluate.box_scorer import BoxScorer
    from figleaf.skin.crops import scheme_called  # scikit-image takes its time to import

    return BoxScorer(scorer, scheme_called(technique), size, method.aggregate)


def _mean_boxes(technique: str, rgb_u8: NDArray[np.uint8]) -> float:
    from figleaf.skin.crops import scheme_called

    rows = np.linspace(0, len(rgb_u8) - 1, min(len(rgb_u8), _COUNTED)).astype(int)
    return float(np.mean([len(scheme_called(technique).boxes(rgb_u8[row])) for row in rows]))


def _listed(scales: Sequence[float]) -> str:
    return f"[{', '.join(f'{scale:g}' for scale in scales)}]"
