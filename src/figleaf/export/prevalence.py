"""What a threshold means where unsafe pictures are rarer than in the test set: a worked table from a run's own metrics.

Precision follows from recall, false positive rate and prevalence by Bayes' rule; recall and FPR do not depend on the
prevalence as long as the safe and the unsafe pictures are of the kinds that were tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from figleaf.export.facts import ModelFacts
from figleaf.export.markdown import escape, table

PREVALENCES = (0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold by what it does on test: `recall` of the unsafe pictures, `fpr` of the safe ones flagged."""

    name: str
    recall: float
    fpr: float

    def flagged(self, prevalence: float) -> float:
        """The share of all pictures that is flagged where `prevalence` of them are unsafe."""
        return prevalence * self.recall + (1 - prevalence) * self.fpr

    def precision(self, prevalence: float) -> float | None:
        """The share of the flagged that is unsafe; None where nothing is flagged."""
        flagged = self.flagged(prevalence)
        return prevalence * self.recall / flagged if flagged else None


def operating_points(metrics: Mapping[str, float], threshold: float | None) -> list[OperatingPoint]:
    """Those that are known of the test split: at the frozen `threshold`, at 1 % and at 5 % FPR."""
    found = []
    recall, fpr = metrics.get("test/recall"), metrics.get("test/fpr")
    if threshold is not None and recall is not None and fpr is not None:
        found.append(OperatingPoint(f"frozen threshold, {threshold:.6g}", recall, fpr))
    for key, fpr in (("recall_at_1fpr", 0.01), ("recall_at_5fpr", 0.05)):
        if (recall := metrics.get(f"test/{key}")) is not None:
            found.append(OperatingPoint(f"{100 * fpr:g} % FPR", recall, fpr))
    return found


def threshold_section(facts: ModelFacts) -> list[str]:
    """The section of the model card on choosing a threshold, as lines of Markdown; none without test metrics."""
    points = operating_points(facts.metrics, facts.threshold)
    if not points:
        return []
    proxy = " (proxy)" if facts.is_proxy else ""
    rows = []
    for point in points:
        cells = [f"{100 * value:.1f} %{proxy}" for value in (point.recall, point.fpr)]
        for prevalence in PREVALENCES:
            precision = point.precision(prevalence)
            right = "none" if precision is None else f"{100 * precision:.{1 if precision >= 0.1 else 2}f} %{proxy}"
            cells.append(f"{1000 * point.flagged(prevalence):,.1f}; {right}")
        rows.append([point.name, *cells])
    heads = [f"test, {escape(facts.data_name)}", "recall", "FPR", *(f"{100 * p:g} % unsafe" for p in PREVALENCES)]
    return [
        "## Choosing a threshold for your own pictures",
        "",
        "How many of the flagged pictures are really unsafe depends on how many unsafe ones there are to find. Of "
        "1,000 pictures, how many would be flagged, and which share of these would be unsafe:",
        "",
        *table(heads, rows),
        "",
        "With the recall R, the false positive rate F and the prevalence p, the share of unsafe pictures among yours: "
        "flagged of 1,000 = 1000 (p R + (1 - p) F), precision = p R / (p R + (1 - p) F).",
        "",
        _caution(facts),
        "",
        "To choose: label a random sample of your own pictures, which gives p and shows what is missed; say how many "
        "flagged pictures people can look at; then take the threshold from pictures that are not the test set. "
        f"`figleaf calibrate run={escape(facts.run_id[:12])} target_fpr=0.01 target_recall=0.95` makes thresholds that "
        "keep a promise on data held back for it, and a policy for `figleaf predict --policy`.",
    ]


def _caution(facts: ModelFacts) -> str:
    about = ""
    if facts.is_proxy:
        about = f" They are figures of the {escape(facts.data_name)} and say nothing about NSFW accuracy."
    count, prevalence = facts.metrics.get("test/n"), facts.metrics.get("test/prevalence")
    blind = ""
    if count and prevalence is not None and (safe := round(count * (1 - prevalence))):
        blind = (
            f" The test set has {safe:,} safe pictures: even with none of them flagged the FPR could be as high as "
            f"{300 / safe:.2g} % (three in {safe:,}, 95 %), so precision at the rarest prevalences is a guess."
        )
    return (
        "These are expectations, not measurements: R and F are those of the test set, and hold for your pictures only "
        f"as far as these are of the same kinds.{about}{blind}"
    )
