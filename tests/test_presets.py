"""Every preset works: instantiated, a step taken, the result exported and read back."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from figleaf.cli import main
from figleaf.config import compose, conf_dir, experiments_dir
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.saved_scorer import scorer_of
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.study.plan import compose_trials
from figleaf.study.spec import find_study
from figleaf.train.task import train
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

pytestmark = pytest.mark.slow

BRIEF = ["trainer.max_steps=2", "trainer.intervals=0", "trainer.threads=1", "optimizer.batch_size=16"]
EVERY_MODEL = sorted(file.stem for file in (conf_dir() / "model").glob("*.yaml"))
SYSTEMS = [name for name in EVERY_MODEL if name.startswith("skin_")]
SEARCHES = [name for name in EVERY_MODEL if name.startswith("search_")]
DENSE = [name for name in EVERY_MODEL if "dense" in name]  # what they are taught and answer has tests of its own
# What from_file is, only its file says.
MODELS = [name for name in EVERY_MODEL if name not in (*SYSTEMS, *SEARCHES, "from_file")]


@pytest.mark.parametrize("preset", MODELS)
def test_model_takes_a_step_and_exports(preset: str, tmp_path: Path) -> None:
    """Full-size presets by a narrow stand-in here; VGG16 and VGG19 at full size have a test of their own."""
    m = compose("train", [f"model={preset}"]).model
    size = min(m.input_size, 64)
    net = VGG(
        depth=m.depth,
        batch_norm=m.batch_norm,
        width=min(m.width, 0.0625),
        head=m.head,
        dropout=m.dropout,
        input_size=size,
    )
    pictures = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    loss = net.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2)).square().sum()
    loss.backward()
    optimizer.step()
    reference = TorchScorer(net, ("a", "b"), ("b",))
    record = {"classes": ["a", "b"], "unsafe": ["b"], "threshold": None, "resize_rule": rule()}
    exported = OnnxScorer(write_onnx(net, tmp_path / "model.onnx", record))
    np.testing.assert_allclose(exported.logits(pictures), reference.logits(pictures), atol=1e-4)


@pytest.mark.parametrize("preset", SYSTEMS)
def test_skin_system_is_fitted_and_answers_from_its_file(preset: str) -> None:
    size = ["data=scenes", "data.count=80", "model.input_size=48", "trainer.intervals=0"]
    result = train(compose("train", [f"model={preset}", *size]))
    assert np.isfinite(result.metrics["test/auroc"])
    scorer = scorer_of(result.folder / "checkpoints" / "best.safetensors")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    assert np.isfinite(scorer.logits(pictures)).all()


@pytest.mark.parametrize("preset", [name for name in SEARCHES if name != "search_vgg"])  # which needs ImageNet's file
def test_search_is_indexed_and_asked(preset: str) -> None:
    scenes = ["data=scenes", "data.count=80", "model.input_size=48", "trainer.intervals=0"]
    found = train(compose("train", [f"model={preset}", *scenes])).metrics
    assert found["test/label_map"] > 0
    assert found["test/slice_precision_at_10"] > 0


def rule() -> str:
    from figleaf.data.decode import RESIZE_RULE

    return RESIZE_RULE


@pytest.mark.parametrize(
    "preset",
    [f"augment={file.stem}" for file in sorted((conf_dir() / "augment").glob("*.yaml"))]
    + [f"optimizer={file.stem}" for file in sorted((conf_dir() / "optimizer").glob("*.yaml"))],
)
def test_augmentation_and_optimizer_train(preset: str) -> None:
    result = train(compose("train", ["data=digits", "model=debug", preset, *BRIEF]))
    assert 0 <= result.metrics["test/auroc"] <= 1


@pytest.mark.parametrize(("key", "values"), [("data.balance", ("class_weights", "sampler"))])
def test_balance_trains(key: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert train(compose("train", ["data=digits", "model=debug", f"{key}={value}", *BRIEF])).metrics


def test_scenes_train_evaluate_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = ["data=scenes", "data.count=80"]
    result = train(compose("train", [*scenes, "model=debug", *BRIEF]))
    assert set(Predictions.load(result.folder / "predictions.parquet").table["label"]) == {"covered", "exposed"}
    assert main(["export", "run=latest", f"out={tmp_path / 'out'}"]) == 0
    assert main(["evaluate", f"run={tmp_path / 'out' / 'model.onnx'}", *scenes, "intervals=0", "split=val"]) == 0


def test_photos_train(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_SHARED", str(shared))
    result = train(compose("train", ["data=skin_area", "model=debug", *BRIEF]))
    assert result.metrics["test/n"] == 684
    assert "test/slice/hands/crop/auroc" in result.metrics


@pytest.mark.parametrize("name", sorted(path.parent.name for path in experiments_dir().glob("*/study.yaml")))
def test_every_arm_of_every_experiment_composes(name: str) -> None:
    assert compose_trials(find_study(name, experiments_dir()))


BASE_ONLY = """
import importlib.metadata, pathlib, sys

names, wanted = set(), ["numpy", "pillow", "onnxruntime"]
while wanted:
    name = wanted.pop()
    if name not in names:
        names.add(name)
        asked = importlib.metadata.requires(name) or []
        wanted += [one.split(">")[0].split("=")[0].strip() for one in asked if "extra ==" not in one]
tops = importlib.metadata.packages_distributions()
allowed = {"figleaf", *(top for top, owners in tops.items() if names & {owner.lower() for owner in owners})}

class BaseOnly:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, BaseOnly())
import figleaf
from figleaf.cli import main

print("figleaf from", pathlib.Path(figleaf.__file__).parent, file=sys.stderr)
sys.exit(main(sys.argv[1:]))
"""


def test_installed_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    """The wheel carries conf/, experiments/ and web/; built and unpacked here without a network."""
    import sys
    import zipfile

    root = conf_dir().parent
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    sources = [*(root / "web" / "app").iterdir(), *(root / "web" / "lib").iterdir(), root / "web" / "index.html"]
    for file in (*sources, root / "web" / "package-lock.json"):
        assert (tmp_path / "site" / "figleaf" / file.relative_to(root)).read_bytes() == file.read_bytes()
    assert not (tmp_path / "site" / "figleaf" / "web" / "node_modules").exists()
    done = subprocess.run(
        [sys.executable, "-m", "figleaf.cli", "train", "model=vgg19", "--print-config"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"depth": 19' in done.stdout

    # Of the experiments it carries the questions; the answers of a user are written beside the user.
    carried = tmp_path / "site" / "figleaf" / "experiments"
    assert not list(carried.rglob("results"))
    where = "import figleaf.config as c; print(c.experiments_dir()); print(c.own_experiments_dir())"
    asked = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == [str(carried), str(tmp_path / "experiments")]
    assert (tmp_path / "experiments" / "quick" / "study.yaml").read_bytes() == (
        carried / "quick" / "study.yaml"
    ).read_bytes()

    # The base installation is enough for an exported file: what no dependency of it brings cannot be imported.
    net = VGG(depth=11, width=0.0625, head="gap", input_size=32).eval()
    record = {"classes": ["a", "b"], "unsafe": ["b"], "threshold": 0.5, "resize_rule": rule()}
    write_onnx(net, tmp_path / "model.onnx", record)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    scored = subprocess.run(
        [sys.executable, "-c", BASE_ONLY, "predict", "picture.png", "--model", "model.onnx"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, scored.stderr
    (package,) = re.findall(r"figleaf from (.+)", scored.stderr)
    assert Path(package) == tmp_path / "site" / "figleaf"
    logits = TorchScorer(net, ("a", "b"), ("b",)).logits(picture[None]).astype(float)
    expected = 1 / (1 + np.exp(logits[0, 0] - logits[0, 1]))
    assert json.loads(scored.stdout)["score"] == pytest.approx(expected, abs=1e-5)
