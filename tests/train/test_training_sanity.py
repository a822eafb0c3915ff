"""What anybody would ask of a network and its training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image
from sklearn.metrics import roc_auc_score

from bad_images import write_bad_corpus
from figleaf.config import compose, experiments_dir
from figleaf.data.manifest import sample_id
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions
from figleaf.train.build import make_module, make_objective
from figleaf.train.callbacks import read_checkpoint
from figleaf.train.classification import Classification
from figleaf.train.inputs import load_inputs
from figleaf.train.module import Classifier
from figleaf.train.task import TrainResult, train
from figleaf.vgg.scorer import TorchScorer

FAST = ["data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0", "trainer.threads=1"]


def quick(*overrides: str) -> TrainResult:
    return train(compose("train", [*FAST, *overrides]))


def module_of(*overrides: str) -> tuple[Classifier, Any]:
    from figleaf.config import home

    config = compose("train", [*FAST, *overrides])
    inputs = load_inputs(config.data, config.model.input_size, 1.0, home())
    rows = inputs.rows("train")
    return make_module(config, make_objective(config, inputs), BatchPlan(len(rows), 64, 0)), inputs


def batch(inputs: Any, count: int) -> dict[str, torch.Tensor]:
    rows = inputs.rows("train")[:count]
    images = torch.from_numpy(np.array(inputs.pictures.pixels[rows])).permute(0, 3, 1, 2)
    return {"image": images, "label": torch.from_numpy(inputs.manifest.labels[rows]), "index": torch.from_numpy(rows)}


def test_loss_at_initialisation_is_that_of_guessing() -> None:
    module, inputs = module_of("model.dropout=0")
    with torch.no_grad():
        loss = module.eval().training_step(batch(inputs, 200), 0)
    assert loss.item() == pytest.approx(math.log(10), rel=0.15)


def test_one_batch_is_learnt_by_heart() -> None:
    module, inputs = module_of("model.dropout=0", "optimizer.lr=0.02")
    one = batch(inputs, 16)
    optimizer = module.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        loss = module.training_step(one, 0)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_gradient_of_a_sample_touches_its_own_picture_only() -> None:
    module, inputs = module_of()
    images = batch(inputs, 4)["image"].float().requires_grad_()
    module.network.eval()(images)[1].sum().backward()
    touched = images.grad.abs().amax((1, 2, 3)) > 0
    assert touched.tolist() == [False, True, False, False]


def test_class_weights_make_a_rare_class_count() -> None:
    plain, inputs = module_of()
    objective = Classification(inputs, unsafe=(1,), class_weights=torch.tensor([0.0] + [1.0] * 9))
    weighted = Classifier(plain.network, objective, plain.settings, total_steps=1, seed=0).eval()
    one = batch(inputs, 50)
    one["label"][:] = 0
    assert weighted.training_step(one, 0).item() == 0
    assert plain.eval().training_step(one, 0).item() > 0


@pytest.mark.parametrize("schedule", ["one_cycle", "constant", "plateau"])
def test_learning_rate_is_a_function_of_the_step(schedule: str) -> None:
    module, _ = module_of(f"optimizer.schedule={schedule}", "optimizer.lr=0.1")
    rates = [module.learning_rate(step) for step in range(module.total_steps + 1)]
    assert max(rates) <= 0.1 + 1e-12
    if schedule == "one_cycle":
        assert rates[0] < 0.1
        assert rates[-1] < 1e-3
        assert rates == sorted(rates[: rates.index(max(rates))]) + sorted(
            rates[rates.index(max(rates)) :], reverse=True
        )
    else:
        assert set(rates) == {0.1}


def test_finished_run_is_not_trained_again_and_never_is_a_new_one(home: Path) -> None:
    first, again, anew = quick(), quick(), quick("resume=never")
    assert again.repeated
    assert again.run_id == first.run_id
    assert again.metrics == first.metrics
    assert anew.run_id != first.run_id
    same = {k: v for k, v in anew.metrics.items() if not k.startswith("time/")}
    assert same == {k: v for k, v in first.metrics.items() if not k.startswith("time/")}, "seeded runs repeat exactly"


def test_run_leaves_all_that_is_promised(home: Path) -> None:
    result = quick("name=mine", "optimizer.ema_decay=0.9", "optimizer.label_smoothing=0.1", "optimizer.clip_norm=1.0")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = client.get_run(result.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    artifacts = {a.path for a in client.list_artifacts(result.run_id)}
    assert artifacts >= {
        "config.yaml",
        "environment.txt",
        "hardware.json",
        "predictions.parquet",
        "model",
        "slices.csv",
    }
    figures = {a.path for a in client.list_artifacts(result.run_id, "figures")} | artifacts
    assert any(path.endswith("learning_curves.png") for path in figures)
    assert run.data.params["model.depth"] == "11"
    assert len(run.data.tags["figleaf.data_hash"]) == 64
    promised = {"epoch/val_auroc", "epoch/train_loss", "test/auroc", "cost/gmacs", "time/peak_memory_mb", "fit/auroc"}
    assert promised <= set(run.data.metrics)
    predictions = Predictions.load(result.folder / "predictions.parquet")
    assert set(predictions.table["split"]) == {"val", "test"}


def test_fit_is_that_of_the_last_weights_on_the_training_pictures(home: Path) -> None:
    result = quick("trainer.epochs=3", "augment=none")
    module, inputs = module_of("trainer.epochs=3", "augment=none")
    module.load_state_dict(read_checkpoint(result.folder / "checkpoints" / "last.ckpt")["state_dict"])
    rows = inputs.rows("train")
    logits = TorchScorer(module.selected, inputs.manifest.classes, inputs.manifest.unsafe).logits(
        inputs.pictures.pixels[rows]
    )
    unsafe = [inputs.manifest.classes.index(name) for name in inputs.manifest.unsafe]
    scores = torch.from_numpy(logits).double().softmax(1)[:, unsafe].sum(1).numpy()
    assert result.metrics["fit/n"] == len(rows)
    assert result.metrics["fit/auroc"] == pytest.approx(roc_auc_score(inputs.manifest.is_unsafe[rows], scores))


def test_accumulated_steps_are_those_of_the_whole_batch(home: Path) -> None:
    plain = ["model.batch_norm=false", "model.dropout=0", "optimizer.lr=0.01"]
    whole, parts = quick(*plain), quick(*plain, "trainer.max_device_batch=16")
    assert parts.run_id != whole.run_id
    assert parts.metrics["val/nll"] == pytest.approx(whole.metrics["val/nll"], abs=1e-4)


def test_data_without_an_unsafe_class_is_judged_by_accuracy(home: Path, tmp_path: Path) -> None:
    folder = images_folder(tmp_path / "things", {"cat": (200, 60, 60), "dog": (60, 60, 200)})
    from figleaf.data.index import index_folder
    from figleaf.data.manifest import save_manifest

    save_manifest(index_folder(folder, val_fraction=0.3, test_fraction=0.3, seed=0, unsafe=[]), folder / "manifest.csv")
    result = quick("data=manifest", f"data.manifest={folder}/manifest.csv", "data.calib_fraction=0")
    assert "test/top1" in result.metrics
    assert "test/auroc" not in result.metrics


def images_folder(folder: Path, colours: dict[str, tuple[int, int, int]], count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(-40, 40, (40, 40, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_every_bad_picture_is_accounted_for_in_training_and_evaluation(home: Path, tmp_path: Path) -> None:
    folder = images_folder(tmp_path / "mixed", {"nsfw": (200, 60, 60), "sfw": (60, 60, 200)}, count=20)
    corpus = write_bad_corpus(folder / "sfw" / "odd")
    assert len({bad.kind for bad in corpus}) >= 15
    good = sorted(folder.glob("*sfw/*.png"))
    splits = ["train", "val", "test"]
    rows = [(f, f.parent.name, splits[i % 3]) for i, f in enumerate(good)]
    rows += [(bad.path, "sfw", splits[i % 3]) for i, bad in enumerate(corpus)]
    lines = [(sample_id(path.relative_to(folder)), label, split) for path, label, split in rows]
    pd.DataFrame(lines, columns=["path", "label", "split"]).to_csv(folder / "manifest.csv", index=False)
    result = quick("data=manifest", f"data.manifest={folder}/manifest.csv", "data.calib_fraction=0")
    table = Predictions.load(result.folder / "predictions.parquet").table.set_index("sample_id")
    for i, bad in enumerate(corpus):
        if splits[i % 3] == "train":
            continue
        row = table.loc[sample_id(bad.path.relative_to(folder))]
        assert (row["error"] is None or row["error"] != row["error"]) == bad.decodes, f"{bad.kind}: {row['error']}"
        assert (row["score"] == row["score"]) == bad.decodes
    assert result.metrics["test/n_errors"] > 0


def test_read_only_home_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the home should be")
    monkeypatch.setenv("FIGLEAF_HOME", str(blocked / "home"))
    with pytest.raises((FigleafError, NotADirectoryError), match="home"):
        quick()


@pytest.mark.slow
@pytest.mark.parametrize("study", sorted(p.parent.name for p in experiments_dir().glob("*/study.yaml")))
def test_every_arm_of_every_experiment_composes(study: str) -> None:
    from figleaf.study.plan import compose_trials
    from figleaf.study.spec import find_study

    assert compose_trials(find_study(study, experiments_dir()))
