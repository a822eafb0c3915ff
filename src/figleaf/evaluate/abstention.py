"""What a policy decides by itself and what it leaves to people: its coverage, and the errors in what it decides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.policy import Policy


@dataclass(frozen=True)
class Abstention:
    """Of `pictures` a policy decides about `decided`, `wrong` of them wrongly; the others are reviewed.

    Wrong is an unsafe picture that passes, and a safe one that is blocked or blurred.
    """

    pictures: int
    decided: int
    wrong: int

    @property
    def coverage(self) -> float:
        """The share of pictures that is decided; NaN of none."""
        return self.decided / self.pictures if self.pictures else float("nan")

    @property
    def errors(self) -> float | None:
        """The share of wrong ones among the decided (selective risk); None where all are left to people."""
        return self.wrong / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of `errors`, as if pictures were independent, which those of a group are not."""
        from statsmodels.stats.proportion import proportion_confint

        if not self.decided:
            return None
        low, high = proportion_confint(self.wrong, self.decided, method="wilson")
        return float(low), float(high)

    @property
    def words(self) -> str:
        """In one sentence."""
        if self.interval is None:
            return "decides about no picture by itself: all are reviewed"
        low, high = self.interval
        return (
            f"decides about {self.coverage:.1%} of {self.pictures:,} pictures by itself, {self.wrong:,} of "
            f"{self.decided:,} wrongly ({self.errors:.1%}, 95 % interval {low:.1%} to {high:.1%}); "
            f"{1 - self.coverage:.1%} are reviewed"
        )


def abstention(policy: Policy, scores: NDArray[np.float64], is_unsafe: NDArray[np.bool_]) -> Abstention:
    """What `policy` does with pictures of these `scores`, at its temperature, and labels `is_unsafe`, both (N,)."""
    actions = np.array([policy.action(score) for score in scores], dtype=object)
    wrong = np.where(is_unsafe, actions == "pass", np.isin(actions, ("block", "blur")))
    return Abstention(len(scores), int((actions != "review").sum()), int(wrong.sum()))
