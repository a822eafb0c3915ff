"""`figleaf calibrate`: a run's temperature, and thresholds that keep a promise, as a policy file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import CalibrateConfig, DataConfig, compose, from_dict, home, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.evaluate.policy import Policy
    from figleaf.evaluate.predictions import Predictions
    from figleaf.tracking.find import FoundRun

EPILOG = """\
Scores the calib split of the run's data, which nothing else has used, and writes a policy: which pictures to block, to
send to review and to let pass.

  block   from a score that keeps the false positive rate at most target_fpr,
  review  from a score that keeps the recall (of review and block together) at least target_recall,

each with `confidence`, by learn-then-test on one picture of each group. Pictures below both pass. A promise is about
pictures that come as the calib split's do. When so few groups cannot show it, the command says what they could;
target_fpr=null leaves out block, target_recall=null review.

One picture of each group counts, drawn by `seed`, so another seed gives another draw: choose one before you look, as a
promise that was picked from several holds less often. The policy is of the scores of the run's checkpoint, or, with
file=FILE, of an exported file; `out` is <run>-policy.json unless you name another.

Beside the policy FILE.json stands FILE.svg: how well probabilities fit before and after, and how many errors are left
when only the surest pictures are decided, with the policy's own share beside that curve. The JSON printed has what the
policy does on val and test: the `coverage` that it decides without people, and the `errors_of_decided` among these.

`figleaf predict PATH --policy FILE.json` says for each picture what is done with it.

examples:
  figleaf calibrate run=best:demo
  figleaf calibrate run=latest target_fpr=0.01 target_recall=0.99 confidence=0.9
  figleaf calibrate run=latest file=export/demo/model-int8.onnx
"""


def main(arguments: Sequence[str]) -> int:
    """Calibrate."""
    parser = with_overrides("calibrate", "Scores that are probabilities, thresholds that keep a promise.", EPILOG)
    options = parse_mixed(parser, arguments)
    config: CalibrateConfig = compose("calibrate", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    from figleaf.commands.run_names import named_run
    from figleaf.evaluate.abstention import abstention
    from figleaf.evaluate.calibration import at_temperature, coverage_table, fit_temperature
    from figleaf.evaluate.figures import calibration, save_figure

    if config.target_fpr is None and config.target_recall is None:
        raise FigleafError("target_fpr=null target_recall=null: nothing to promise; give one of them")
    run = named_run(config.run, config.tracking)
    out = Path(config.out or f"{file_name(run.name)}-policy.json").expanduser().absolute()
    if out.suffix != ".json":
        raise FigleafError(f"out={config.out}: expected a name that ends in .json")
    if not out.parent.is_dir():
        raise FigleafError(f"out={config.out}: there is no folder {out.parent}; make it first")
    predictions, sha256 = _predictions(config, run)
    calib = predictions.select(split="calib").scored
    fitted_on, tested_on = _parts(calib, config.seed)
    try:
        temperature = fit_temperature(fitted_on)
    except FigleafError as error:
        say(f"no temperature: {error}; scores stay as they are")
        temperature = 1.0
    policy = replace(_policy(config, run, tested_on, temperature), sha256=sha256)
    measured = {
        split: _measured(policy, part, temperature)
        for split in ("val", "test")
        if len(part := predictions.select(split=split).scored)
    }
    judged = predictions.select(split="test" if "test" in measured else "val").scored
    after = at_temperature(judged, temperature)
    notes = {
        "confidence": config.confidence,
        "seed": config.seed,
        "calibrated_on": {
            "data": predictions.data_name,
            "data_hash": predictions.data_hash,
            "pictures": len(calib),
            "groups": int(calib.table["group"].nunique()),
        },
        "model": run.name,
    }
    band = abstention(policy, after.scores, after.is_unsafe)
    save_figure(calibration(judged, after, band), out.with_suffix(".svg"))
    policy.save(out, notes)  # last: a policy that is there is whole
    say(f"temperature {temperature:.3g}")
    for rule in policy.rules:
        say(f"{rule.action:6}  from {rule.at_least:.4f}  {rule.why}")
    say(f"on {'test' if 'test' in measured else 'val'}: {band.words}")
    say(f"{out}, {out.with_suffix('.svg')}")
    report: dict[str, Any] = {
        "policy": str(out),
        "temperature": temperature,
        "rules": [{"action": rule.action, "at_least": rule.at_least, "why": rule.why} for rule in policy.rules],
        "measured": measured,
        "coverage": coverage_table(after.scores, after.is_unsafe),
        **notes,
    }
    print_json(report)
    return 0


def _predictions(config: CalibrateConfig, run: "FoundRun") -> tuple["Predictions", str]:
    """Of the run's checkpoint, or of the file, on calib, val and test; and the file's SHA-256, "" without one."""
    from figleaf.commands.run_facts import own_manifest, settings_of
    from figleaf.commands.run_names import weights_of
    from figleaf.commands.scorers import open_scorer
    from figleaf.data.cache import data_hash
    from figleaf.evaluate.predictions import predict
    from figleaf.evaluate.saved_scorer import scorer_of
    from figleaf.train.inputs import decode_for

    data = from_dict(settings_of(run)["data"], DataConfig)
    manifest = own_manifest(data, "to calibrate on", "train again, where they are now")
    if "calib" not in manifest.splits:
        raise FigleafError(
            f"run={config.run}: trained on all of its train split, so nothing is left to calibrate on; train with "
            "data.calib_fraction=0.1, or give the manifest a split calib (`figleaf data cut`)"
        )
    sha256 = ""
    if config.file is None:
        scorer = scorer_of(weights_of(run))
    else:
        opened = open_scorer(config.file, config.tracking, "file=")
        scorer, sha256 = opened.scorer, opened.identity
        if opened.run_id != run.run_id:
            raise FigleafError(
                f"file={config.file}: of the run {opened.run_id or 'that it does not name'}, not of {run.name} "
                f"({run.run_id})"
            )
    if not scorer.unsafe:
        raise FigleafError(f"run={config.run}: none of the classes {', '.join(scorer.classes)} is unsafe")
    decoded = decode_for(manifest, scorer.input_size, data, home())
    digest = data_hash(manifest, decoded.content_sha256)
    found = predict(scorer, manifest, decoded, data_hash=digest, splits=("calib", "val", "test"))
    if not len(found.select(split="calib").scored):
        raise FigleafError(
            f"run={config.run}: no picture of calib has a score: unreadable, or logits that are not finite"
        )
    return found, sha256


def _parts(calib: "Predictions", seed: int) -> tuple["Predictions", "Predictions"]:
    """What the temperature is fitted on, and what thresholds are tested on.

    With two classes a temperature keeps the order of scores, so all pictures serve for both. With more it may change
    it, and a test on what it was fitted to would promise too much: then half of the groups serve for each.
    """
    if len(calib.classes) == 2:
        return calib, calib
    import numpy as np

    groups = np.unique(calib.table["group"])
    first = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
    is_first = calib.table["group"].isin(first)
    parts = [calib.table.loc[keep].reset_index(drop=True) for keep in (is_first, ~is_first)]
    return replace(calib, table=parts[0]), replace(calib, table=parts[1])


def _policy(config: CalibrateConfig, run: "FoundRun", calib: "Predictions", temperature: float) -> "Policy":
    from figleaf.evaluate.calibration import at_temperature, one_of_each_group, safe_threshold
    from figleaf.evaluate.policy import Policy, Rule

    independent = at_temperature(one_of_each_group(calib, config.seed), temperature)
    rules: list[Rule] = []
    for action, risk, target in (("block", "fpr", config.target_fpr), ("review", "recall", config.target_recall)):
        if target is None:
            continue
        point = safe_threshold(
            independent.scores, independent.is_unsafe, risk=risk, target=target, confidence=config.confidence
        )
        if risk == "fpr" and point.threshold >= 1.0:
            say(f"target_fpr={target:g}: no score below 1 keeps it, so next to nothing is blocked")
        if rules and point.threshold >= rules[-1].at_least:  # blocking alone finds enough
            rules[-1] = replace(rules[-1], why=f"{rules[-1].why}; {point.promise}")
        else:
            rules.append(Rule(action, point.threshold, point.promise))
    return Policy(run.run_id, calib.classes, calib.unsafe, temperature, tuple(rules))


def _measured(policy: "Policy", part: "Predictions", temperature: float) -> dict[str, float]:
    """What the policy does on a split that it was not made from, and how well probabilities fit there."""
    import numpy as np

    from figleaf.evaluate.abstention import abstention
    from figleaf.evaluate.calibration import at_temperature
    from figleaf.evaluate.metrics import metrics

    after = at_temperature(part, temperature)
    actions = np.array([policy.action(score) for score in after.scores])
    unsafe = after.is_unsafe
    plain, scaled = metrics(part), metrics(after)
    found = {f"{key}_before": plain[key] for key in ("ece", "nll") if key in plain}
    found |= {f"{key}_after": scaled[key] for key in ("ece", "nll") if key in scaled}
    found |= {f"share_{action}": float((actions == action).mean()) for action in ("block", "review", "pass")}
    band = abstention(policy, after.scores, unsafe)
    found["coverage"] = band.coverage
    if band.errors is not None and band.interval is not None:
        low, high = band.interval
        found |= {"errors_of_decided": band.errors, "errors_of_decided_low": low, "errors_of_decided_high": high}
    if (~unsafe).any():
        found["fpr_of_block"] = float((actions[~unsafe] == "block").mean())
    if unsafe.any():
        found["recall_of_block_and_review"] = float((actions[unsafe] != "pass").mean())
    return {"n": len(part), **found}
