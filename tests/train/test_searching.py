"""A search goes through `figleaf train`: train is indexed, val and test are asked, every answer is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figleaf.cli import main
from figleaf.config import MethodConfig, compose, home
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions
from figleaf.tracking.find import find_run
from figleaf.tracking.store import open_store
from figleaf.train.task import TrainResult, train


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Red and green pictures, some of them striped, in groups of two that lie across the splits; one is broken."""
    rows = []
    for number in range(48):
        rgb_u8 = np.random.default_rng(number).integers(0, 60, (20, 20, 3), dtype=np.uint8)
        rgb_u8[..., number % 2] += 180
        Image.fromarray(rgb_u8).save(tmp_path / f"{number:02}.png")
        split = ("train", "train", "val", "test")[number // 4 % 4]
        label = ("sfw", "nsfw")[number % 2]
        rows.append([f"{number:02}.png", label, split, f"g{number // 2}", "even" if number % 4 < 2 else "odd"])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows.append(["broken.png", "sfw", "test", "g99", "odd"])
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group", "slice"])
    table.to_csv(tmp_path / "m.csv", index=False)
    return [f"data.manifest={tmp_path / 'm.csv'}", "data=manifest", "data.calib_fraction=0", "trainer.intervals=50"]


def searched(data: list[str], *overrides: str) -> TrainResult:
    return train(compose("train", ["model=search_histogram", *data, *overrides]))


def test_every_query_of_val_and_test_has_its_measures_and_their_means_are_the_metrics(data: list[str]) -> None:
    result = searched(data)
    kept = Predictions.load(result.folder / "predictions.parquet")
    assert set(kept.table["split"]) == {"val", "test"}
    test = kept.select(split="test")
    assert kept.measures == (
        *("label_map", "label_precision_at_10", "label_chance"),
        *("slice_map", "slice_precision_at_10", "slice_chance"),
    )
    # Colours are the labels here, and say nothing of the slices.
    assert result.metrics["test/label_map"] == 1
    assert result.metrics["test/auroc"] == 1
    assert result.metrics["test/slice_chance"] == pytest.approx(0.5)
    assert 0.3 < result.metrics["test/slice_map"] < 0.7
    assert result.metrics["test/slice_map"] == pytest.approx(np.nanmean(test.table["slice_map"]))
    low, high = (result.metrics[f"test/slice_map_{end}"] for end in ("low", "high"))
    assert low <= result.metrics["test/slice_map"] <= high
    odd = test.table["slice"] == "odd"
    assert result.metrics["test/slice/odd/slice_map"] == pytest.approx(np.nanmean(test.table["slice_map"][odd]))
    assert result.metrics["test/n_errors"] == 1
    assert np.isnan(test.table["label_map"][test.table["sample_id"] == "broken.png"]).all()


def test_only_train_is_found_and_never_the_querys_own_group(data: list[str], tmp_path: Path) -> None:
    """Val pictures that join the groups of their labels in train have nothing left to find."""
    table = pd.read_csv(tmp_path / "m.csv")
    table["group"] = table["label"]
    table.to_csv(tmp_path / "m.csv", index=False)
    result = searched(data)
    assert "val/label_map" not in result.metrics
    assert "test/label_map" not in result.metrics
    assert result.metrics["test/slice_map"] > 0


def test_it_is_a_tracked_run_whose_index_can_be_searched_and_that_holds_no_weights(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = searched(data)
    run = find_run(open_store(None, home()), result.run_id)
    assert (run.status, run.name) == ("FINISHED", "search_histogram-s1")
    assert searched(data).repeated
    assert main(["similar", str(tmp_path / "12.png"), "--in", str(result.folder / "index"), "--count", "3"]) == 0
    assert '"label": "sfw"' in capsys.readouterr().out
    for named in ("search_histogram-s1", "latest"):
        assert main(["similar", str(tmp_path / "12.png"), "--in", f"run={named}", "--count", "1"]) == 0
    assert '"label": "sfw"' in capsys.readouterr().out
    assert main(["export", f"run={result.run_id}"]) == 2
    assert "holds no weights: it made an index of pictures; `figleaf similar IMAGE --in" in capsys.readouterr().err
    assert main(["export", "run=latest"]) == 2


def test_what_cannot_be_indexed_is_told(data: list[str]) -> None:
    with pytest.raises(FigleafError, match=r"model\.options\.bin=4: histogram has the options bins, distance"):
        searched(data, "model.options.bin=4")
    with pytest.raises(FigleafError, match=r"model\.options\.bins=four: expected an integer, such as 8"):
        searched(data, "model.options.bins=four")
    with pytest.raises(FigleafError, match=r"model\.weights=none: expected a file of convolutions"):
        searched(data, "model=search_vgg", "model.weights=none")
    with pytest.raises(FigleafError, match="histogram reads no network"):
        searched(data, "model.weights=torchvision:IMAGENET1K_V1")
    with pytest.raises(FigleafError, match="an index is made by one process"):
        searched(data, "trainer.devices=2")
    with pytest.raises(FigleafError, match="distance=far: expected quadratic or hellinger"):
        searched(data, "model.options.distance=far")


def test_the_features_of_a_trained_run_are_searched(tmp_path: Path) -> None:
    config = compose("train", ["data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0"])
    search = replace(config, evaluation=MethodConfig(method="search"))
    with pytest.raises(FigleafError, match="the run that is to be measured is not in this tracker"):
        train(search)
    trained = train(config)
    found = train(search)
    assert found.metrics["test/label_map"] > found.metrics["test/label_chance"]
    run = find_run(open_store(None, home()), found.run_id)
    assert run.tags["figleaf.source_run_id"] == trained.run_id
    assert (found.folder / "index" / "index.json").is_file()
    with pytest.raises(FigleafError, match="method=search: takes no other settings"):
        train(replace(config, evaluation=MethodConfig(method="search", flip=True)))


def test_a_run_without_an_index_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    run = train(compose("train", ["data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0"]))
    assert main(["similar", str(tmp_path / "x.png"), "--in", f"run={run.run_id}"]) == 2
    assert "has no index of pictures here; `figleaf train model=search_...`" in capsys.readouterr().err
