"""A network with a dense head learns masks through the same training as any other."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score

from figleaf.cli import main
from figleaf.config import MethodConfig, TrainConfig, compose, home
from figleaf.data.decode import decode, resize
from figleaf.data.manifest import load_manifest
from figleaf.data.masks import read_mask
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.evaluate.pixel_metrics import THRESHOLDS
from figleaf.evaluate.predictions import Predictions
from figleaf.study.state import data_hashes
from figleaf.train.build import make_module, make_objective
from figleaf.train.inputs import Inputs, load_inputs
from figleaf.train.module import Classifier
from figleaf.train.segmentation import Segmentation
from figleaf.train.task import train
from figleaf.vgg.pixel_model import VggPixels
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import enlarged, skin_maps
from figleaf.vgg.weights import load

DENSE = ["model=debug", "model.head=dense", "model.dropout=0", "trainer.epochs=2", "trainer.threads=1"]
FAST = [*DENSE, "trainer.intervals=50", "optimizer.batch_size=4", "optimizer=adamw", "optimizer.lr=0.01"]
PICTURES, HEIGHT, WIDTH = 24, 40, 36  # a third in each split


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A manifest: squares in a colour of skin on something bluish, large where the label says so."""
    folder, rng, rows = tmp_path / "squares", np.random.default_rng(0), []
    folder.mkdir()
    for index in range(PICTURES):
        is_unsafe = index % 2 == 1
        side = 24 if is_unsafe else 10
        top, left = rng.integers(0, HEIGHT - side), rng.integers(0, WIDTH - side)
        mask_u8 = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask_u8[top : top + side, left : left + side] = 255
        rgb = np.where(mask_u8[..., None] > 0, [215, 165, 135], [90, 100, 140]) + rng.normal(0, 15, (HEIGHT, WIDTH, 3))
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(mask_u8).save(folder / f"{index}-mask.png")
        label, split = "unsafe" if is_unsafe else "safe", ("train", "val", "test")[index // 2 % 3]
        rows.append({"path": f"{index}.png", "label": label, "split": split, "mask": f"{index}-mask.png"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def config_of(file: Path, *overrides: str) -> TrainConfig:
    data = ["data=manifest", f"data.manifest={file}", "data.calib_fraction=0"]
    return compose("train", [*data, *FAST, *overrides])


def inputs_of(file: Path, *, masks: bool = True) -> Inputs:
    return load_inputs(config_of(file).data, 32, 1.0, home(), masks=masks)


def module_of(file: Path, *overrides: str) -> tuple[Classifier, Inputs]:
    config, inputs = config_of(file, *overrides), inputs_of(file)
    return make_module(config, make_objective(config, inputs), BatchPlan(8, 4, 0)), inputs


def batch(inputs: Inputs, count: int) -> dict[str, torch.Tensor]:
    (found,) = Segmentation(inputs).validation_batches(inputs.masked_rows("train")[:count], count)
    return found


def test_loss_at_initialisation_is_that_of_guessing(file: Path) -> None:
    module, inputs = module_of(file)
    with torch.no_grad():
        assert module.training_step(batch(inputs, 8), 0).item() == pytest.approx(math.log(2), abs=0.03)


@pytest.mark.parametrize("dice", [0, 1])
def test_one_batch_is_learnt_by_heart(file: Path, dice: float) -> None:
    module, inputs = module_of(file, f"optimizer.dice={dice}")
    one, optimizer = batch(inputs, 4), module.configure_optimizers()
    for _ in range(150):
        optimizer.zero_grad()
        loss = module.training_step(one, 0)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.03 * (1 + dice)


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_the_loss_of_a_batch_is_the_mean_of_its_samples_own(file: Path, dice: float) -> None:
    """So ranks and accumulation may share a batch."""
    module, inputs = module_of(file, f"optimizer.dice={dice}", "optimizer.label_smoothing=0.1")
    one = batch(inputs, 6)
    logits = torch.randn(6, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = [
        module.objective.loss(logits[i : i + 1], {key: part[i : i + 1] for key, part in one.items()}) for i in range(6)
    ]
    assert module.objective.loss(logits, one).item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-6)


def test_soft_dice_is_one_minus_the_overlap(file: Path) -> None:
    inputs = inputs_of(file)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2] = True
    left = torch.where(torch.arange(4) < 2, 40.0, -40.0).expand(1, 1, 4, 4)  # found for sure, and half of it wrong
    logits = torch.cat([-left, left], 1)
    losses = [Segmentation(inputs, dice=dice).loss(logits, {"mask": mask}).item() for dice in (0.0, 2.0)]
    assert losses[1] - losses[0] == pytest.approx(2 * (1 - (2 * 4 + 1) / (8 + 8 + 1)), rel=1e-4)


def test_a_run_learns_pixels_and_leaves_all_that_is_promised(file: Path, home: Path) -> None:
    result = train(config_of(file, "trainer.epochs=12"))
    found, best = result.metrics, result.folder / "checkpoints" / "best.safetensors"
    promised = {"pixel_f1", "pixel_precision", "pixel_recall", "pixel_iou", "pixel_auroc", "pixel_f1_by_image", "auroc"}
    assert {f"{split}/{key}" for split in ("val", "test") for key in promised} <= found.keys()
    assert {"test/pixel_f1_low", "test/slice/all/pixel_f1", "fit/pixel_f1", "cost/gmacs"} <= found.keys()
    assert found["test/pixel_f1"] > 0.9
    assert found["val/accuracy"] == 1, "the threshold of the share splits val"
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = client.get_run(result.run_id)
    assert {"pixels.csv", "predictions.parquet"} <= {a.path for a in client.list_artifacts(result.run_id)}
    assert len(client.get_metric_history(result.run_id, "epoch/val_pixel_f1")) == 12
    assert float(run.data.tags["figleaf.selection"]) == found["val/pixel_f1"]
    assert "-dense-" in run.info.run_name

    # The numbers again, from the file of weights alone and by another way: the masks are 40 x 36, the network's map 32.
    model, manifest = VggPixels(str(best)).fit(), load_manifest(file).select("test")
    flagged = np.concatenate([model.skin_mask(decode(path)).ravel() for path in manifest.paths])
    truth = np.concatenate([read_mask(path).ravel() for path in manifest.masks if path is not None])
    assert found["test/n_pixels"] == len(truth) == 8 * HEIGHT * WIDTH
    assert found["test/pixel_f1"] == pytest.approx(f1_score(truth, flagged), abs=1e-9)
    assert found["test/pixel_iou"] == pytest.approx(jaccard_score(truth, flagged), abs=1e-9)
    table = pd.read_csv(result.folder / "pixels.csv")
    of_test = table[table["split"] == "test"]
    assert of_test["sample_id"].tolist() == manifest.table["path"].tolist()
    assert found["test/pixel_f1_by_image"] == pytest.approx(of_test["pixel_f1"].mean())
    predictions = Predictions.load(result.folder / "predictions.parquet").select(split="test")
    pictures = np.stack([resize(decode(path), 32) for path in manifest.paths])
    assert np.array_equal(TorchScorer.load(best).logits(pictures), predictions.logits)


def test_samples_without_a_mask_teach_nothing_and_are_still_scored(file: Path) -> None:
    table = pd.read_csv(file)
    first = {split: table.index[table["split"] == split][0] for split in ("train", "test")}
    table.loc[list(first.values()), "mask"] = ""
    table.to_csv(file, index=False)
    config, inputs = config_of(file), inputs_of(file)
    assert first["train"] in inputs.rows("train")
    assert first["train"] not in make_objective(config, inputs).rows("train")
    assert any(line.startswith("2 of 24 samples have no mask") for line in inputs.warnings())
    result = train(config)
    assert result.metrics["test/n"] == 8
    assert len(pd.read_csv(result.folder / "pixels.csv")) == 8 + 7


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ("", r"none of the 8 samples of the split 'train' has a mask .*column 'mask'.*model\.head=gap"),
        ("none.png", r"has a mask that can be read \(no such file\): fill the manifest's column 'mask'"),
    ],
)
def test_a_manifest_without_masks_is_refused_by_the_column(file: Path, mask: str, told: str) -> None:
    pd.read_csv(file).assign(mask=mask).to_csv(file, index=False)
    with pytest.raises(FigleafError, match=told):
        train(config_of(file))


def test_masks_of_zeros_and_ones_are_refused(file: Path) -> None:
    for path in file.parent.glob("*-mask.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    with pytest.raises(FigleafError, match="no mask of the split 'train' holds a pixel of 128 or more"):
        train(config_of(file))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.balance=class_weights"], r"data\.balance=class_weights: .*learns pixels"),
        (["data.unsafe=[]"], r"model\.head=dense: .*two classes of which one is unsafe"),
    ],
)
def test_what_has_no_meaning_for_pixels_is_refused(file: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        train(config_of(file, *overrides))


def test_a_changed_mask_makes_another_run_where_masks_are_read(file: Path) -> None:
    before = [inputs_of(file, masks=masks).data_hash for masks in (False, True)]
    Image.new("L", (WIDTH, HEIGHT), 255).save(file.parent / "0-mask.png")
    after = [inputs_of(file, masks=masks).data_hash for masks in (False, True)]
    assert before[0] == after[0]
    assert before[1] not in (after[1], before[0])
    assert data_hashes()(config_of(file)) == after[1], "a study asks for the same run"
    assert data_hashes()(config_of(file, "model.head=gap")) == after[0]


@pytest.mark.slow
def test_a_dense_run_is_evaluated_and_exported_like_any_other(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(config_of(file, "trainer.epochs=1"))
    data = ["data=manifest", f"data.manifest={file}", "data.calib_fraction=0", "intervals=0"]
    assert main(["export", "run=latest", f"out={tmp_path / 'out'}"]) == 0
    capsys.readouterr()
    for run in ("latest", tmp_path / "out" / "model.onnx", tmp_path / "out" / "model.safetensors"):
        assert main(["evaluate", f"run={run}", *data]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["auroc"] == pytest.approx(result.metrics["test/auroc"], abs=1e-6), run
        assert found["accuracy"] == pytest.approx(result.metrics["test/accuracy"], abs=1e-6), run
    assert main(["evaluate", "run=latest", *data, "method=dense", "scales=[32,64]", "flip=true"]) == 0
    assert json.loads(capsys.readouterr().out)["variant"] == "dense-q32+64-flip"


def test_maps_of_several_scales_and_mirror_images_are_averaged_before_they_are_measured(file: Path) -> None:
    config = config_of(file, "trainer.epochs=3")
    trained = train(config)
    plain = train(replace(config, evaluation=MethodConfig()))
    pixels = {key for key in trained.metrics if "pixel" in key and not key.startswith("fit/")}
    assert {key: plain.metrics[key] for key in pixels} == {key: trained.metrics[key] for key in pixels}
    averaged = train(replace(config, evaluation=MethodConfig(method="dense", scales=[32, 64], flip=True)))
    assert averaged.metrics["cost/gmacs"] == pytest.approx(2 * (1 + 4) * plain.metrics["cost/gmacs"])

    # By another way: the four maps one by one, at the masks' size, and the threshold that is best on val.
    net, manifest = load(trained.folder / "checkpoints" / "best.safetensors")[0].eval(), load_manifest(file)
    found: dict[str, list[NDArray[np.float64]]] = {"val": [], "test": []}
    truth: dict[str, list[NDArray[np.bool_]]] = {"val": [], "test": []}
    for path, mask, split in zip(manifest.paths, manifest.masks, manifest.table["split"], strict=True):
        if split == "train" or mask is None:
            continue
        views = []
        for size in (32, 64):
            rgb_u8 = resize(decode(path), size)[None]
            skin, mirrored = skin_maps(net, rgb_u8)[0], skin_maps(net, rgb_u8[:, :, ::-1])[0, :, ::-1]
            views += [enlarged(view.copy(), (HEIGHT, WIDTH)).astype(float) for view in (skin, mirrored)]
        found[split].append(np.mean(views, axis=0).ravel())
        truth[split].append(read_mask(mask).ravel())
    val, test = (np.concatenate(found[split]) for split in ("val", "test"))
    is_val, is_test = (np.concatenate(truth[split]) for split in ("val", "test"))
    best = max(f1_score(is_val, val >= threshold) for threshold in THRESHOLDS)
    assert averaged.metrics["val/pixel_f1"] == pytest.approx(best, abs=1e-3)
    threshold = averaged.metrics["val/skin_threshold"]
    assert averaged.metrics["test/pixel_f1"] == pytest.approx(f1_score(is_test, test >= threshold), abs=1e-3)
    assert averaged.metrics["test/pixel_f1"] != plain.metrics["test/pixel_f1"]
    assert averaged.metrics["test/brier"] != plain.metrics["test/brier"]
    assert (averaged.folder / "pixels.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["model.batch_norm=false", "optimizer.clip_norm=1", "data.balance=sampler"],
        ["augment=pca", "augment.larger=1.5", "trainer.workers=1", "optimizer.ema_decay=0.9"],
        ["model.frozen_stages=2", "augment=none", "optimizer.schedule=plateau", "optimizer.dice=1"],
    ],
)
def test_the_options_of_a_training_go_with_a_dense_head(file: Path, overrides: list[str]) -> None:
    result = train(config_of(file, *overrides, "trainer.epochs=1"))
    assert 0 <= result.metrics["test/pixel_f1"] <= 1


@pytest.mark.slow
def test_accumulated_steps_are_those_of_the_whole_batch(file: Path) -> None:
    plain = ["model.batch_norm=false", "optimizer=one_cycle", "optimizer.lr=0.02", "optimizer.dice=0.5"]
    whole, parts = (train(config_of(file, *plain, *more)) for more in ([], ["trainer.max_device_batch=2"]))
    assert parts.run_id != whole.run_id
    assert parts.metrics["val/nll"] == pytest.approx(whole.metrics["val/nll"], abs=1e-4)
