"""Jones & Rehg's mixtures of Gaussians for the colours of skin and of everything else, with their published numbers.

Jones & Rehg, "Statistical Color Models with Application to Skin Detection" (CRL-98-11, CVPR 1999, IJCV 46(1) 2002),
fitted by them to nearly a thousand million labelled pixels of the early Web: a model of skin that needs no training.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from figleaf.errors import FigleafError
from figleaf.skin.pixel_model import ColorRule

FloatArray = NDArray[np.float64]

_ROWS_AT_A_TIME = 1 << 16  # 16 densities of each: 8 MB


@dataclass(frozen=True)
class DiagonalMixture:
    """A mixture of K Gaussians on RGB from 0 to 255: `means` and `variances` (K, 3), `weights` (K,)."""

    means: FloatArray
    variances: FloatArray
    weights: FloatArray

    def log_density(self, rgb: FloatArray) -> FloatArray:
        """Natural logarithm of the density (N,) at colours (N, 3)."""
        precisions = 1 / self.variances
        # (x - m)^2 / v, multiplied out to two matrix products: several times as fast as the (N, K, 3) differences
        distance = rgb**2 @ precisions.T - 2 * rgb @ (self.means * precisions).T
        constant = np.log(self.weights) - 0.5 * (np.log(2 * np.pi * self.variances) + self.means**2 * precisions).sum(
            axis=1
        )
        return log_of_sum(constant - distance / 2)


def log_of_sum(logs: FloatArray) -> FloatArray:
    """log(sum(exp(logs), axis=1)) (N,) of (N, K); scipy's does the same, ten times as long over its special cases."""
    largest = logs.max(axis=1, keepdims=True)
    found: FloatArray = np.log(np.exp(logs - largest).sum(axis=1)) + largest[:, 0]
    return found


@cache
def published_mixtures() -> tuple[DiagonalMixture, DiagonalMixture]:
    """The mixtures of skin and of what is not skin, from the table in this package."""
    table = json.loads(resources.files(__package__).joinpath("jones_rehg_gmm.json").read_text())
    skin, not_skin = (np.array(table[name]) for name in ("skin", "not_skin"))
    return tuple(DiagonalMixture(rows[:, :3], rows[:, 3:6], rows[:, 6]) for rows in (skin, not_skin))  # type: ignore[return-value]  # of two


def log_likelihood_ratio(rgb: FloatArray) -> FloatArray:
    """log(P(rgb | skin) / P(rgb | not skin)) (N,) of colours (N, 3) from 0 to 255."""
    skin, not_skin = published_mixtures()
    parts = [rgb[start : start + _ROWS_AT_A_TIME] for start in range(0, len(rgb), _ROWS_AT_A_TIME)]
    return np.concatenate([skin.log_density(part) - not_skin.log_density(part) for part in parts])


class JonesRehgMixture(ColorRule):
    """The published mixtures as a rule on colours: P(skin | rgb) by Bayes' rule.

    With `skin_prior` 0.5, half a probability is a likelihood ratio of 1. In the authors' photos 8.5 % of the labelled
    pixels are skin.
    """

    def __init__(self, skin_prior: float = 0.5) -> None:
        self.skin_prior = skin_prior

    def color_probability(self, rgb: FloatArray) -> FloatArray:
        """P(skin | rgb) (N,) of colours (N, 3)."""
        if not 0 < self.skin_prior < 1:
            raise FigleafError(f"skin_prior={self.skin_prior}: expected 0 < x < 1")
        probability: FloatArray = expit(log_likelihood_ratio(rgb) + logit(self.skin_prior))
        return probability
