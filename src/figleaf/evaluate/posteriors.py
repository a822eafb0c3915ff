"""Averages of softmax posteriors: over the views of a picture, over scales, over networks.

What comes out are logarithms of probabilities. They are valid logits, since their softmax is the average itself, so
that whatever reads logits reads averages, too.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from figleaf.evaluate.predictions import Predictions


def log_mean_posterior(logits: NDArray[np.floating] | Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Log-probabilities (N, C): the mean of the softmax posteriors of K answers, (K, N, C). NaN where one has NaN."""
    each = log_softmax(np.asarray(logits, dtype=np.float64), axis=2)
    averaged: NDArray[np.float32] = (logsumexp(each, axis=0) - np.log(len(each))).astype(np.float32)
    return averaged


def average(answers: Sequence[Predictions]) -> Predictions:
    """The mean posterior of several predictions of the same samples in the same order; one alone stays as it is.

    A sample without a score in one of them has none in the average. Variant and data are those of the first.
    """
    first = answers[0]
    if len(answers) == 1:
        return first
    if any(not answer.table["sample_id"].equals(first.table["sample_id"]) for answer in answers):
        raise ValueError("predictions of different samples, or in another order")
    errors = pd.concat([answer.table["error"] for answer in answers], axis=1).bfill(axis=1).iloc[:, 0]
    averaged = Predictions.from_logits(
        first.table,
        log_mean_posterior([answer.logits for answer in answers]),
        classes=first.classes,
        unsafe=first.unsafe,
        data_name=first.data_name,
        data_hash=first.data_hash,
        errors=[None if pd.isna(error) else str(error) for error in errors],
    )
    averaged.table["variant"] = first.table["variant"]
    return averaged
