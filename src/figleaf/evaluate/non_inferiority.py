"""Whether a new model may take the place of an old one: that it is not worse has to be shown, not assumed.

A test that finds no difference shows nothing: with few images it never finds one. So the question is turned round
(non-inferiority, as in trials of medicines): how much worse may the new model be? The new one passes when the interval
of the difference excludes everything beyond that margin.
"""

from dataclasses import dataclass

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.delong import AurocDifference, delong
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import Interval
from figleaf.evaluate.two_models import bootstrap_difference

# In AUROC. Of the order of the spread over seeds of one recipe (a standard deviation of .002 to .02 in the studies of
# drawn scenes): what training again can cost by chance should not stop a successor, and what is more should.
MARGIN = 0.01


@dataclass(frozen=True)
class NonInferiority:
    """A challenger against a champion in AUROC, on N samples in G groups which both have scored.

    `delong` and `resampled` are two 95 % intervals of the challenger's AUROC less the champion's: DeLong's, of groups,
    and the percentile bootstrap's over groups. `difference` is theirs in the middle.
    """

    auroc_challenger: float
    auroc_champion: float
    difference: float
    delong: Interval
    resampled: Interval
    margin: float
    n_samples: int
    n_groups: int
    n_left_out: int

    @property
    def low(self) -> float:
        """The lower of the two lower bounds: where they disagree, the one that trusts the challenger less counts."""
        return min(self.delong.low, self.resampled.low)

    @property
    def high(self) -> float:
        """The higher of the two upper bounds."""
        return max(self.delong.high, self.resampled.high)

    @property
    def is_shown(self) -> bool:
        """Whether a loss of the margin or more is excluded."""
        return self.low > -self.margin

    @property
    def verdict(self) -> str:
        """In words: not worse, worse, or that the samples do not tell."""
        if self.is_shown:
            return "better" if self.low > 0 else "not worse"
        return "worse" if self.high < 0 else "not shown to be no worse"


def non_inferiority(
    challenger: Predictions,
    champion: Predictions,
    *,
    margin: float = MARGIN,
    other_training_data: bool = False,
    resamples: int = 2000,
) -> NonInferiority:
    """Compare two models on one frozen test set, paired by sample.

    The two must have been scored on the same data, by its hash, or, with `other_training_data`, at least on the same
    samples: ids, contents, groups and truth. Raises `FigleafError` when they were not, when the challenger has no score
    for more samples than the champion (leaving out hard pictures must not pay), for a margin outside of 0 to 1, and as
    `delong` and `bootstrap_difference`.
    """
    if not 0 <= margin < 1:
        raise FigleafError(f"margin={margin:g}: expected 0 <= margin < 1, in AUROC, such as {MARGIN}")
    if challenger.data_hash != champion.data_hash and not other_training_data:
        raise FigleafError(
            f"the challenger was measured on data {challenger.data_hash[:12]} ({challenger.data_name}), the champion "
            f"on {champion.data_hash[:12]} ({champion.data_name}): not the same data"
        )
    samples = SameSamples.of([challenger, champion], names=["the challenger", "the champion"])
    missing = [int((~run.is_scored).sum()) for run in (challenger, champion)]
    if missing[0] > missing[1]:
        raise FigleafError(
            f"the challenger has no score for {missing[0]} of the {len(challenger)} samples, the champion for "
            f"{missing[1]}: a comparison without them would favour the challenger"
        )
    found: AurocDifference = delong(challenger, champion)
    resampled = bootstrap_difference(challenger, champion, "auroc", n=resamples)
    return NonInferiority(
        auroc_challenger=found.auroc_a,
        auroc_champion=found.auroc_b,
        difference=found.difference,
        delong=found.interval,
        resampled=resampled.interval,
        margin=margin,
        n_samples=len(samples.group),
        n_groups=len(set(samples.group.tolist())),
        n_left_out=samples.n_left_out,
    )
