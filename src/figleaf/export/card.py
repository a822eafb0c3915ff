"""The model card: what the network is, what was measured on what, what was not, and what it is for."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from figleaf import __version__
from figleaf.data.decode import RESIZE_RULE
from figleaf.export.facts import ModelFacts
from figleaf.export.markdown import escape, table
from figleaf.export.parity import Parity
from figleaf.export.prevalence import threshold_section
from figleaf.vgg.cost import gmacs, megabytes, parameters
from figleaf.vgg.described import described
from figleaf.vgg.network import VGG

# In the order of the card, with what a reader calls them; metrics beside these are left to the tracker.
METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fpr": "false positive rate",
    "recall_at_1fpr": "recall at 1 % FPR",
    "recall_at_5fpr": "recall at 5 % FPR",
    "fpr_at_95recall": "FPR at 95 % recall",
    "precision_at_1pct": "precision at 1 % prevalence",
    "precision_at_0.1pct": "precision at 0.1 % prevalence",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "pixel_f1": "F1 of pixels, at the masks' resolution",
    "pixel_precision": "precision of pixels",
    "pixel_recall": "recall of pixels",
    "pixel_iou": "intersection over union of pixels",
    "pixel_auroc": "AUROC of pixels",
}
COUNTS = {"n": "pictures", "n_groups": "groups", "n_errors": "unreadable files", "prevalence": "share of unsafe"}

NOT_MEASURED = (
    "pictures of another kind than the data named above: drawings, screenshots, video frames, generated pictures",
    "differences between people: skin tone, age, gender, body shape, disability, dress",
    "pictures changed on purpose to deceive it, and recompressed, cropped, recoloured or watermarked copies",
    "agreement with any platform's policy or any country's law",
)
NOT_FOR = (
    "deciding alone about anybody's pictures, account, work or standing",
    "finding illegal material, above all of child abuse, which needs the specialised services that exist for it",
    "finding out who people are, or saying anything of their character, age, health or sexuality",
    "watching people who have not been told",
    "pictures of other kinds than it was measured on, before it has been measured on them",
)


def model_card(
    net: VGG,
    facts: ModelFacts,
    parity: Mapping[str, Parity],
    files: Sequence[str],
    report: Mapping[str, Any],
) -> str:
    """The card as Markdown. `parity`: by format, how far each file is from the checkpoint; `files`: their names.

    `report` holds each format's `bytes`, and may hold the `quality` of the lossy ones.

    Names that come from data are escaped. When the data are a proxy, every number says so.
    """
    sections = (
        _head(net, facts),
        _use(facts),
        _measured(facts),
        _slices(facts),
        threshold_section(facts),
        ["## What was not measured", "", *(f"- {item};" for item in NOT_MEASURED[:-1]), f"- {NOT_MEASURED[-1]}."],
        _input(net, facts, files),
        _parity(parity, report),
        _provenance(facts),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def metric_rows(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row a count or metric that a run has on val or test: `key`, `name`, and for each split what is known.

    That is its `value`, whether it is a whole number (`count`), and its interval, `low` and `high`, where there is one.
    """
    rows = []
    for key, name in {**COUNTS, **METRICS}.items():
        cells: dict[str, Any] = {}
        for split in ("val", "test"):
            value = metrics.get(f"{split}/{key}")
            if value is None or not math.isfinite(value):
                continue
            cells[split] = {"value": value, "count": key in COUNTS and key != "prevalence"}
            low, high = metrics.get(f"{split}/{key}_low"), metrics.get(f"{split}/{key}_high")
            if low is not None and high is not None:
                cells[split] |= {"low": low, "high": high}
        if cells:
            rows.append({"key": key, "name": name, **cells})
    return rows


def _head(net: VGG, facts: ModelFacts) -> list[str]:
    head = {"fc": "fully connected", "gap": "global average pooling", "dense": "dense (every pixel)"}[net.head]
    unsafe = ", ".join(map(escape, facts.unsafe)) or "none"
    return [
        f"# Model card: {escape(facts.name)}",
        "",
        f"A {described(net)}, {head} head, for pictures of "
        f"{net.input_size} x {net.input_size}: {parameters(net):,} parameters, {gmacs(net):.3f} GMACs a picture, "
        f"{megabytes(net):.1f} MB of weights.",
        "",
        f"It tells apart: {', '.join(map(escape, facts.classes))}. Unsafe among them: {unsafe}.",
        "",
        f"Licence of the weights: {escape(facts.licence) or 'not stated. They come from the data named below'}.",
    ]


def _use(facts: ModelFacts) -> list[str]:
    lines = [
        "## Intended use",
        "",
        "Research on image classifiers, and sorting pictures for review by people who can overrule it.",
        "",
        "## What it must not be used for",
        "",
        *(f"- {item};" for item in NOT_FOR[:-1]),
        f"- {NOT_FOR[-1]}.",
    ]
    if facts.is_proxy:
        lines += [
            "",
            f"**The data, {escape(facts.data_name)}, stand in for the subject. No number on this card says anything "
            "about NSFW accuracy.**",
        ]
    return lines


def _measured(facts: ModelFacts) -> list[str]:
    splits = [split for split in ("val", "test") if any(key.startswith(f"{split}/") for key in facts.metrics)]
    if not splits:
        return ["## What was measured", "", "Nothing is recorded with this run."]
    chosen = "the largest logit decides; no threshold was chosen"
    if facts.threshold is not None:
        chosen = (
            f"a picture is flagged from a score of {facts.threshold:.6g}, chosen by "
            f"{escape(facts.threshold_rule)} of {_on(facts)} and then frozen"
        )
    rows = []
    for key, name in {**COUNTS, **METRICS}.items():
        cells = [_cell(facts, f"{split}/{key}", count=key in COUNTS) for split in splits]
        if any(cells):
            rows.append([name, *cells])
    intervals = any(key.endswith("_low") for key in facts.metrics)
    return [
        "## What was measured",
        "",
        f"On {_on(facts)}, by the best checkpoint of the run; {chosen}."
        + (" In brackets: 95 % intervals by bootstrap over groups." if intervals else "")
        + (" The numbers of val are those the checkpoint and the threshold were chosen by." if "val" in splits else ""),
        "",
        *table(["", *(f"{split}, {_on(facts)}" for split in splits)], rows),
    ]


def _slices(facts: ModelFacts) -> list[str]:
    rows = []
    for key, value in sorted(facts.metrics.items()):
        if match := re.fullmatch(r"test/slice/(.+)/auroc", key):
            count = facts.metrics.get(f"test/slice/{match[1]}/n")
            rows.append([escape(match[1]), "" if count is None else f"{count:,.0f}", _value(facts, value)])
    if not rows:
        return []
    return [
        "## By kind of picture",
        "",
        "Only kinds that hold safe and unsafe pictures; in the others there is nothing to tell apart.",
        "",
        *table(["slice", "pictures", f"AUROC, test, {_on(facts)}"], rows),
    ]


def _input(net: VGG, facts: ModelFacts, files: Sequence[str]) -> list[str]:
    score = " + ".join(f"P({escape(name)})" for name in facts.unsafe)
    return [
        "## Input and output",
        "",
        f"In: RGB, uint8, (N, 3, {net.input_size}, {net.input_size}); the normalisation is inside. Pictures are turned "
        "by their EXIF tag, transparency goes onto white, colour profiles are ignored, and the whole picture is "
        f"squashed to the square by antialiased bilinear interpolation (`{RESIZE_RULE}`). Another resize moves the "
        "scores.",
        "",
        f"Out: logits (N, {len(facts.classes)}), in the order given above."
        + (f" Their softmax gives the score: {score}." if score else "")
        + _pixels(facts),
        "",
        *_channels_last(net, files),
        f"Files: {', '.join(f'`{name}`' for name in files)}; their hashes are in `SHA256SUMS`.",
    ]


_CHANNELS_LAST = {"tfjs": "a layers model for TensorFlow.js", "model.keras": "a Keras 3 file"}


def _channels_last(net: VGG, files: Sequence[str]) -> list[str]:
    """How the folder of that name, and a Keras file, differ in their input; nothing where there is none."""
    named = [f"`{name}` is {what}" for name, what in _CHANNELS_LAST.items() if name in files]
    if not named:
        return []
    shape = f"(N, {net.input_size}, {net.input_size}, 3)"
    return [f"{', '.join(named)}. In: RGB in 0-255 as float32, {shape}. Out: the same.", ""]


def _pixels(facts: ModelFacts) -> str:
    """How a dense network comes to its answer; empty for the others."""
    if facts.share_threshold is None or facts.skin_threshold is None:
        return ""
    return (
        " They follow from the mean probability of skin over the pixels, held against "
        f"{facts.share_threshold:.4g}. The ONNX file gives the map itself, too, `skin` (N, S, S); a pixel counts as "
        f"skin from {facts.skin_threshold:.4g}."
    )


def _parity(parity: Mapping[str, Parity], report: Mapping[str, Any]) -> list[str]:
    sizes, quality = report["bytes"], report.get("quality")
    rows = [
        [
            name,
            f"{sizes[name] / 1e6:.2f}",
            f"{found.images:,}",
            f"{found.max_logit_diff:.1e}",
            "" if found.max_score_diff is None else f"{found.max_score_diff:.1e}",
            str(found.decisions_changed),
            *([f"{quality['formats'][name]:.4f}" if name in quality["formats"] else ""] if quality else []),
        ]
        for name, found in parity.items()
    ]
    heads = ["file", "MB", "pictures", "greatest difference of a logit", "of a score", "decisions changed"]
    lines = ["## The files against the checkpoint", ""]
    if quality is None:
        return [*lines, *table(heads, rows)]
    said = f"The checkpoint's {quality['measure']} is {quality['checkpoint']:.4f}; a file may lose "
    return [*lines, f"{said}{quality['max_drop']:g} of it.", "", *table([*heads, quality["measure"]], rows)]


def _provenance(facts: ModelFacts) -> list[str]:
    commit = escape(facts.git_commit) or "unknown"
    lines = [
        "## Where it comes from",
        "",
        f"- run: {escape(facts.run_id)}",
        f"- data: {_on(facts)}, hash {escape(facts.data_hash)}",
        f"- code: commit {commit}{', with uncommitted changes' if facts.git_dirty else ''}",
        *_weights(facts),
        f"- exported by figleaf {__version__}",
    ]
    if facts.settings:
        rows = [[escape(key), escape(str(value))] for key, value in _flat(facts.settings)]
        lines += ["", *table(["setting", "value"], rows)]
    return lines


def _weights(facts: ModelFacts) -> list[str]:
    if not facts.weights_run_id:
        return []
    steps = f", compressed ({escape(', '.join(facts.compression))})" if facts.compression else ""
    return [f"- weights: started from those of run {escape(facts.weights_run_id)}{steps}"]


def _on(facts: ModelFacts) -> str:
    return escape(facts.data_name)


def _cell(facts: ModelFacts, key: str, *, count: bool) -> str:
    if key not in facts.metrics:
        return ""
    value = facts.metrics[key]
    if count:
        return f"{value:.3f}" if key.endswith("prevalence") else f"{value:,.0f}"
    low, high = facts.metrics.get(f"{key}_low"), facts.metrics.get(f"{key}_high")
    interval = "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
    return _value(facts, value, interval)


def _value(facts: ModelFacts, value: float, interval: str = "") -> str:
    return f"{value:.4f}{interval}" + (" (proxy)" if facts.is_proxy else "")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
