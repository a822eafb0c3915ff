"""A skin system goes through `figleaf train` as a network does: tracked, measured, found again."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figleaf.commands.scorers import open_scorer
from figleaf.config import TrackingConfig, compose, home
from figleaf.errors import FigleafError
from figleaf.evaluate.method import Method
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.saved_scorer import scorer_of
from figleaf.tracking.find import find_run
from figleaf.tracking.store import open_store
from figleaf.train.task import TrainResult, train

SCENES = ["data=scenes", "data.count=80", "trainer.intervals=0", "model.input_size=96"]


def fitted(*overrides: str) -> TrainResult:
    return train(compose("train", ["model=skin_kovac", *SCENES, *overrides]))


@pytest.fixture
def result() -> TrainResult:
    return fitted()


def test_a_fitted_system_is_a_finished_run_with_predictions_weights_and_tables(result: TrainResult) -> None:
    run = find_run(open_store(None, home()), result.run_id)
    assert run.status == "FINISHED"
    assert run.params["model.system"] == "kovac"
    assert "model.depth" not in run.params
    assert run.name == "skin_kovac-s1"
    predictions = Predictions.load(run.artifact("predictions.parquet"))
    assert set(predictions.table["split"]) == {"val", "test"}
    assert predictions.is_scored.all()
    pixels = pd.read_csv(run.artifact("pixels.csv"))
    assert set(pixels["split"]) == {"val", "test"}
    file = run.artifact("model/best.safetensors")
    assert open_scorer(str(file), TrackingConfig()).threshold == run.metrics["val/threshold"] != 0.5
    scorer = scorer_of(file)
    assert (scorer.classes, scorer.unsafe, scorer.input_size) == (("covered", "exposed"), ("exposed",), 96)


def test_pixel_metrics_are_those_of_counting_by_hand(result: TrainResult) -> None:
    from figleaf.data.decode import decode
    from figleaf.skin.pixel_rules import KovacRule
    from figleaf.train.inputs import read_manifest

    manifest = read_manifest(compose("train", [*SCENES[:2], "model=skin_kovac"]).data, home())
    test = manifest.select("test")
    both = marked = skin = 0
    for path, mask in zip(test.paths, test.masks, strict=True):
        picture, truth = decode(path), np.asarray(Image.open(mask)) >= 128
        rule = KovacRule().color_probability(picture.reshape(-1, 3).astype(float)).reshape(truth.shape) > 0
        both, marked, skin = both + (rule & truth).sum(), marked + rule.sum(), skin + truth.sum()
    assert result.metrics["test/pixel_recall"] == pytest.approx(both / skin)
    assert result.metrics["test/pixel_precision"] == pytest.approx(both / marked)
    assert result.metrics["test/pixel_f1"] == pytest.approx(2 * both / (marked + skin))


def test_pixels_are_told_apart_by_any_column_with_the_worst_slice_and_the_gap() -> None:
    metrics = fitted("data.slice_by=tone").metrics
    found = {tone: metrics[f"test/slice/{tone}/pixel_f1"] for tone in ("light", "medium", "dark")}
    assert metrics["test/slice_worst/pixel_f1"] == min(found.values())
    assert metrics["test/slice_gap/pixel_f1"] == pytest.approx(max(found.values()) - min(found.values()))
    recall = [metrics[f"test/slice/{tone}/pixel_recall"] for tone in found]
    assert metrics["test/slice_gap/pixel_recall"] == pytest.approx(max(recall) - min(recall))
    assert "test/slice/none/pixel_f1" not in metrics  # nobody is there, so that there is no skin to find


def test_the_published_decision_is_that_of_the_area(result: TrainResult) -> None:
    predictions = Predictions.load(result.folder / "predictions.parquet").select(split="test")
    flagged = predictions.scores >= 0.5
    assert result.metrics["test/published/recall"] == pytest.approx(flagged[predictions.is_unsafe].mean())
    assert result.metrics["test/published/fpr"] == pytest.approx(flagged[~predictions.is_unsafe].mean())


def test_it_is_not_fitted_again_and_other_options_make_another_run(result: TrainResult) -> None:
    assert fitted().repeated
    other = fitted("model.options.area=0.2")
    assert other.run_id != result.run_id
    assert other.metrics["test/published/recall"] >= result.metrics["test/published/recall"]
    assert other.metrics["test/auroc"] == pytest.approx(result.metrics["test/auroc"])  # only the threshold moved


def test_data_without_masks_have_no_pixel_metrics_and_a_rule_needs_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(24):
        name, color = f"{index}.png", [205, 150, 120] if index % 2 else [90, 140, 210]
        Image.fromarray((np.array(color) + rng.integers(-9, 9, (20, 20, 3))).astype(np.uint8)).save(tmp_path / name)
        rows.append({"path": name, "label": ("sfw", "nsfw")[index % 2], "split": ("train", "val", "test")[index % 3]})
    rows.append({"path": "missing.png", "label": "sfw", "split": "test"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    data = ["data=manifest", f"data.manifest={tmp_path / 'manifest.csv'}", "data.calib_fraction=0"]
    found = train(compose("train", ["model=skin_kovac", "trainer.intervals=0", *data]))
    assert found.metrics["test/auroc"] == 1
    assert found.metrics["test/n_errors"] == 1
    assert not [key for key in found.metrics if "pixel" in key]


def test_what_cannot_be_fitted_is_told_before_anything_is_computed() -> None:
    with pytest.raises(FigleafError, match=r"trainer\.devices=2: a skin system is fitted by one process"):
        fitted("trainer.devices=2")
    with pytest.raises(FigleafError, match=r"model\.options\.are=1: kovac has the options light, area"):
        fitted("model.options.are=1")
    with pytest.raises(FigleafError, match=r"^model\.options\.area=2\.0: expected 0 < x < 1"):
        fitted("model.options.area=2.0")
    assert not (home() / "runs").exists()  # no run that could only fail
    with pytest.raises(FigleafError, match=r"^model\.options\.stage=strict: expected filter, tight, relaxed"):
        fitted("model=skin_fleck", "model.options.stage=strict")


def test_its_file_serves_where_figleaf_does_and_no_other_format_is_promised(
    result: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    from figleaf.cli import main

    assert main(["export", "run=latest"]) == 2
    told = capsys.readouterr().err
    assert "a skin system, which no other runtime can run" in told
    file = told.split("run=")[2].split("`")[0]
    assert main(["evaluate", f"run={file}", *SCENES[:2], "intervals=0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["auroc"] == pytest.approx(result.metrics["test/auroc"])


def test_a_system_has_no_dense_evaluation_and_is_told_what_there_is(result: TrainResult) -> None:
    run = find_run(open_store(None, home()), result.run_id)
    scorer = scorer_of(run.artifact("model/best.safetensors"))
    with pytest.raises(FigleafError, match=r"method=dense: only a network has an fc head .* method=windows"):
        Method("dense", (2.0,)).scorers(scorer)


def test_a_run_of_a_system_can_be_measured_under_perturbations(result: TrainResult) -> None:
    from figleaf.cli import main

    assert main(["evaluate", "run=latest", *SCENES[:2], "perturb=[mirror,cool]", "intervals=0"]) == 0
    (file,) = (home() / "evaluations").glob("*-perturbed.parquet")
    assert set(Predictions.load(file).table["variant"]) == {"clean", "mirror", "cool"}
    assert json.loads((result.folder / "config.json").read_text())["model"]["system"] == "kovac"
