"""A picture as a bag of regions: which of a collection's kinds of region it shows, and how much of each."""

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.codes import Code, Floats, Pictures, numbered
from figleaf.skin.region_features import BLOCKS, describe
from figleaf.skin.regions import segment


class BagOfRegions(Code):
    """Codes from the regions that normalised cuts find: QBIC's idea (Niblack et al. 1993) with a learned vocabulary.

    Every region is described by colour, texture, shape and place (`describe`); each feature is divided by its standard
    deviation over the collection, each block by the root of its length and multiplied by its weight here. Clusters of
    all regions are the words: `codebook="kmeans"`, where a region belongs to the `nearest` words as exp(-d^2 / 2 s^2),
    s the mean distance from the nearest; or "gmm", diagonal Gaussians, by its posterior. A word's count in a picture is
    the sum over regions of belonging times area, weighed by its rarity (`tf_idf`). The code is the root of that, of
    length 1.

    Args:
        words: clusters, at most as many as there are regions to learn from.
        patches, threshold, most: see `segment`. More and smaller parts than are good to look at.
        color, texture, shape, place: weights of the blocks of `BLOCKS`.
    """

    def __init__(
        self,
        *,
        words: int = 64,
        codebook: Literal["kmeans", "gmm"] = "kmeans",
        nearest: int = 8,
        tf_idf: bool = True,
        color: float = 1.0,
        texture: float = 0.5,
        shape: float = 0.5,
        place: float = 0.5,
        patches: int = 120,
        threshold: float = 0.05,
        most: int = 24,
        size: int = 112,
        random_state: int = 0,
    ) -> None:
        self.words = words
        self.codebook = codebook
        self.nearest = nearest
        self.tf_idf = tf_idf
        self.color = color
        self.texture = texture
        self.shape = shape
        self.place = place
        self.patches = patches
        self.threshold = threshold
        self.most = most
        self.size = size
        self.random_state = random_state

    def fit(self, pictures: Pictures, y: object = None) -> Self:
        """Learn the words from the regions of `pictures`."""
        self._fit(self.regions(pictures))
        return self

    def fit_transform(self, pictures: Pictures, y: object = None) -> Floats:
        """The codes of the pictures that the words are learned from: their regions are found once."""
        regions = self.regions(pictures)
        self._fit(regions)
        return self._coded(regions)

    def transform(self, pictures: Pictures) -> Floats:
        """Codes (N, words)."""
        check_is_fitted(self)
        return self._coded(self.regions(pictures))

    def regions(self, pictures: Pictures) -> list[tuple[Floats, Floats]]:
        """Features and areas of each picture's regions; see `describe`."""
        found = []
        # A bar for a single query would be gone before it is seen.
        for picture in track(pictures, "Finding regions", len(pictures)) if len(pictures) > 1 else pictures:
            parts = segment(picture, count=self.patches, threshold=self.threshold, most=self.most)
            found.append(describe(picture, parts.labels))
        return found

    def _fit(self, regions: list[tuple[Floats, Floats]]) -> None:
        if self.codebook not in ("kmeans", "gmm"):
            raise FigleafError(f"codebook={self.codebook}: expected kmeans or gmm")
        features = np.vstack([found for found, _ in regions])
        self.mean_ = features.mean(axis=0)
        spread = features.std(axis=0)
        # A feature that never changes says nothing, and neither does what rounding makes of it.
        self.scale_ = np.where(
            spread > 1e-9 * (1 + np.abs(self.mean_)), self._weights() / np.maximum(spread, 1e-12), 0.0
        )
        scaled = self._scaled(features)
        words = min(self.words, len(np.unique(scaled, axis=0)))
        if self.codebook == "gmm":
            mixture = GaussianMixture(words, covariance_type="diag", reg_covar=1e-4, random_state=self.random_state)
            # It takes two points at least; a collection may be one picture of one colour.
            mixture.fit(scaled if len(scaled) > 1 else scaled.repeat(2, axis=0))
            self.centres_, self.variances_ = mixture.means_, mixture.covariances_
            self.log_priors_ = np.log(np.maximum(mixture.weights_, 1e-12))
        else:
            clusters = MiniBatchKMeans(words, random_state=self.random_state, n_init=3, batch_size=4096).fit(scaled)
            self.centres_ = np.asarray(clusters.cluster_centers_, np.float64)
            nearest = np.sqrt(_squared_distances(scaled, self.centres_).min(axis=1))
            self.reach_ = np.array(max(float(nearest.mean()), 1e-6))
        self.rarity_ = np.ones(words)
        if self.tf_idf:
            shown = np.stack([self._counts(found, areas) for found, areas in regions]) > 0.02
            self.rarity_ = np.log((1 + len(regions)) / (1 + shown.sum(axis=0))) + 1

    def _weights(self) -> Floats:
        of_block: Mapping[str, float] = {name: getattr(self, name) for name in BLOCKS}
        return np.concatenate([np.full(len(names), of_block[b] / np.sqrt(len(names))) for b, names in BLOCKS.items()])

    def _scaled(self, features: Floats) -> Floats:
        return np.asarray((features - self.mean_) * self.scale_)

    def _coded(self, regions: list[tuple[Floats, Floats]]) -> Floats:
        counts = np.stack([self._counts(features, areas) for features, areas in regions]) * self.rarity_
        return np.asarray(np.sqrt(counts / counts.sum(axis=1, keepdims=True)))

    def _counts(self, features: Floats, areas: Floats) -> Floats:
        return np.asarray(areas @ self.belonging(features))

    def belonging(self, features: Floats) -> Floats:
        """How much each region (K, 42) belongs to each word: (K, words), rows adding up to 1."""
        scaled = self._scaled(features)
        if self.codebook == "gmm":
            away = (scaled[:, None] - self.centres_) ** 2 / self.variances_ + np.log(self.variances_)
            logs = self.log_priors_ - away.sum(axis=2) / 2
        else:
            squared = _squared_distances(scaled, self.centres_)
            # Words beyond the nearest few share in nothing.
            few = min(self.nearest, squared.shape[1])
            limit = np.partition(squared, few - 1, axis=1)[:, few - 1 : few]
            logs = np.where(squared <= limit, -squared / (2 * self.reach_**2), -np.inf)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """One name for each number of a code."""
        check_is_fitted(self)
        return numbered("word", len(self.centres_))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "rarity_")


def _squared_distances(points: Floats, centres: Floats) -> Floats:
    """(N, K), without the differences' (N, K, d)."""
    found = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(found, 0.0))
