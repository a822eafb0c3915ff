"""What an exported file and its model card say about the run behind the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from figleaf import __version__
from figleaf.data.decode import RESIZE_RULE
from figleaf.vgg.network import VGG
from figleaf.vgg.skin_map import SHARE_THRESHOLD, SKIN_THRESHOLD

INPUT = "uint8 RGB 0-255, (N, 3, S, S)"


@dataclass(frozen=True)
class ModelFacts:
    """What is known about the run that a network comes from.

    `classes` names the logits in order, `unsafe` those whose probabilities add up to the score. A picture is flagged
    when its score is at least `threshold`, which `threshold_rule` says how to have been chosen; None: the network's own
    decision, the largest logit. `metrics` has the tracker's keys: `val/auroc`, `test/auroc_low`,
    `test/slice/<slice>/auroc`. `settings` is the run's configuration, nested or flat; it is published, so it holds no
    address with a password. `licence` is what the weights may be used under, "" when nobody has said. A network with a
    dense head has a `skin_threshold`, the probability from which a pixel is skin, and a `share_threshold`, the share of
    skin from which a picture is unsafe. `weights_run_id` is the run whose weights it started from, where that is known,
    and `compression` what had been done to them, such as ("prune", "svd").
    """

    name: str
    run_id: str
    classes: tuple[str, ...]
    unsafe: tuple[str, ...]
    data_name: str
    data_hash: str
    threshold: float | None = None
    threshold_rule: str = "accuracy on val"
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    git_commit: str = ""
    git_dirty: bool = False
    licence: str = ""
    skin_threshold: float | None = None
    share_threshold: float | None = None
    weights_run_id: str = ""
    compression: tuple[str, ...] = ()

    @property
    def is_proxy(self) -> bool:
        """Whether the data stand in for the subject, so that no number is one of NSFW accuracy."""
        return "proxy" in self.data_name.lower()

    def record(self, net: VGG) -> dict[str, Any]:
        """What every exported file carries, in plain JSON values: enough to score pictures and to find the run."""
        thresholds = {SKIN_THRESHOLD: self.skin_threshold, SHARE_THRESHOLD: self.share_threshold}
        return {
            "classes": list(self.classes),
            "unsafe": list(self.unsafe),
            "threshold": self.threshold,
            "input": INPUT,
            "input_size": net.input_size,
            "resize_rule": RESIZE_RULE,
            "hyperparameters": net.hyperparameters,
            "run_name": self.name,
            "run_id": self.run_id,
            "data_name": self.data_name,
            "data_hash": self.data_hash,
            "git_commit": self.git_commit + ("-dirty" if self.git_dirty else ""),
            "figleaf_version": __version__,
            "licence": self.licence or "not stated",
            **{key: value for key, value in thresholds.items() if value is not None},
            **({"weights_run_id": self.weights_run_id} if self.weights_run_id else {}),
        }
