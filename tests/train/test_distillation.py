"""A student learns what its teacher says of the views that both have seen."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_run import weights_whole_and_killed

from figleaf.config import TrainConfig, compose, fingerprint, home, teacher_sha256
from figleaf.data.loader import Batch
from figleaf.errors import FigleafError
from figleaf.train.build import make_module, make_objective, make_plan
from figleaf.train.distillation import Distillation, TaughtSamples
from figleaf.train.inputs import Inputs, load_inputs
from figleaf.train.task import train
from figleaf.train.teacher import Lessons, give_lessons, require_pupil
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import save

DIGITS = [str(digit) for digit in range(10)]
FAST = ["data=digits", "model=debug", "model.dropout=0", "trainer.epochs=2", "trainer.intervals=0", "trainer.threads=1"]


def write_teacher(file: Path, classes: list[str] = DIGITS, input_size: int = 32, head: str = "gap") -> Path:
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.125, head=head, input_size=input_size, classes=len(classes))  # type: ignore[arg-type]
    save(net, file, {"classes": classes, "unsafe": classes[5:]})
    return file


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_teacher(tmp_path / "teacher.safetensors")


def config_of(teacher: Path, *overrides: str) -> TrainConfig:
    return compose("train", [*FAST, f"distill.teacher={teacher}", *overrides])


def inputs_of(config: TrainConfig) -> Inputs:
    return load_inputs(config.data, config.model.input_size, config.augment.larger, home())


def first_batch(config: TrainConfig, epoch: int, count: int = 20) -> tuple[Distillation, Batch]:
    objective = make_objective(config, inputs_of(config))
    assert isinstance(objective, Distillation)
    samples = objective.training_samples(config)
    assert isinstance(samples, TaughtSamples)
    return objective, samples.__getitems__([(epoch, position) for position in range(count)])


@pytest.mark.parametrize("epoch", [0, 1, 2, 5])
def test_the_teacher_s_word_is_of_the_very_picture_that_the_student_sees(teacher: Path, epoch: int) -> None:
    config = config_of(teacher, "augment=pca", "distill.views=3", "distill.features=1")
    _, batch = first_batch(config, epoch)
    seen = batch["image"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(TorchScorer.load(teacher).logits(seen), batch["teacher_logits"], atol=1e-5)


def test_views_come_again_after_their_number(teacher: Path) -> None:
    config = config_of(teacher, "distill.views=3")
    images = [first_batch(config, epoch)[1]["image"] for epoch in range(4)]
    assert torch.equal(images[0], images[3])
    assert not torch.equal(images[0], images[1])


def test_a_larger_teacher_sees_the_same_part_of_the_picture_in_its_own_detail(tmp_path: Path) -> None:
    large = write_teacher(tmp_path / "large.safetensors", input_size=96)
    config = config_of(large, "augment.scale_min=0.3", "data.cache_gb=1")
    inputs = inputs_of(config)
    asked: list[np.ndarray] = []
    original = TorchScorer.load(large).net

    class Watched(VGG):
        def up_to_stage(self, rgb: torch.Tensor, last: int) -> torch.Tensor:
            asked.append(rgb.permute(0, 2, 3, 1).numpy())
            return original.up_to_stage(rgb, last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VGG, "up_to_stage", Watched.up_to_stage)
        patch.setattr(original, "up_to_stage", lambda rgb, last: torch.zeros(len(rgb), 64, 3, 3))
        give_lessons(config, inputs, inputs.rows("train"))
    _, batch = first_batch(config, 0)
    seen = batch["image"].permute(0, 2, 3, 1).numpy().astype(float)
    shrunk = asked[0][: len(seen)].reshape(len(seen), 32, 3, 32, 3, 3).mean((2, 4))
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(seen, shrunk, strict=True)]
    assert np.median(correlations) > 0.9  # 8x8 pixels of the source: a student's pixel is a tenth of the view


def test_without_augmentation_there_is_one_view(teacher: Path) -> None:
    config = config_of(teacher, "augment=none")
    inputs = inputs_of(config)
    assert give_lessons(config, inputs, inputs.rows("train")).views == 1


def test_the_teacher_is_asked_once_by_all_seeds(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(teacher, "distill.views=2")
    inputs = inputs_of(config)
    rows = inputs.rows("train")
    first = give_lessons(config, inputs, rows)
    monkeypatch.setattr("figleaf.train.teacher._ask", lambda *_: pytest.fail("asked again"))
    again = give_lessons(replace(config, seed=7), inputs, rows)
    assert np.array_equal(first.logits, again.logits)
    assert first.logits.shape == (2, len(rows), 10)
    assert first.features.shape == (2, len(rows), 0)


def test_the_loss_is_hinton_s(teacher: Path) -> None:
    config = config_of(teacher, "distill.temperature=3", "distill.weight=0.7", "optimizer.label_smoothing=0")
    objective, batch = first_batch(config, 0)
    logits = torch.randn(20, 10, generator=torch.manual_seed(1)).double()

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values)
        return exponentials / exponentials.sum(1, keepdims=True)  # type: ignore[no-any-return]

    own, theirs = softmax(logits.numpy() / 3), softmax(batch["teacher_logits"].double().numpy() / 3)
    divergence = (theirs * np.log(theirs / own)).sum(1).mean()
    labels = batch["label"].numpy()
    entropy = -np.log(softmax(logits.numpy())[np.arange(20), labels]).mean()
    doubled = {**batch, "teacher_logits": batch["teacher_logits"].double()}
    assert objective.loss(logits, doubled).item() == pytest.approx(0.3 * entropy + 0.7 * 9 * divergence, rel=1e-6)
    nothing_to_learn = objective.loss(batch["teacher_logits"], batch)
    assert nothing_to_learn.item() == pytest.approx(0.3 * objective_of_labels(batch), rel=1e-4)


def objective_of_labels(batch: Batch) -> float:
    return torch.nn.functional.cross_entropy(batch["teacher_logits"], batch["label"]).item()


def test_a_student_comes_close_to_its_teacher(tmp_path: Path) -> None:
    whole = train(compose("train", [*FAST, "trainer.epochs=6"]))
    best = whole.folder / "checkpoints" / "best.safetensors"
    longer = ["trainer.epochs=4", "distill.weight=1", "distill.features=0.5", "seed=5"]
    student = train(config_of(best, *longer))
    alone = train(compose("train", [*FAST, "trainer.epochs=4", "seed=5"]))
    inputs = inputs_of(config_of(best))
    pictures = inputs.pictures.pixels[inputs.rows("val")]

    def disagreement(folder: Path) -> float:
        nets = (best, folder / "checkpoints" / "best.safetensors")
        ours, theirs = (torch.from_numpy(TorchScorer.load(file).logits(pictures)).log_softmax(1) for file in nets)
        return torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="batchmean").item()

    assert disagreement(student.folder) < 0.8 * disagreement(alone.folder)


def test_the_features_of_the_teacher_are_standardised_and_matched_by_a_map_that_learns(teacher: Path) -> None:
    config = config_of(teacher, "distill.features=0.5", "distill.views=2")
    inputs = inputs_of(config)
    objective = make_objective(config, inputs)
    assert isinstance(objective, Distillation)
    of_all = np.asarray(objective.lessons.features).reshape(-1, objective.lessons.features.shape[2])
    moving = of_all.std(0) > 0.5
    assert moving.any()
    np.testing.assert_allclose(of_all.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(of_all[:, moving].std(0), 1, atol=1e-3)
    module = make_module(config, objective, make_plan(config, inputs, objective.rows("train"), 0, 1))
    samples = objective.training_samples(config)
    batch = samples.__getitems__([(0, position) for position in range(16)])  # type: ignore[attr-defined]
    module.training_step(batch, 0).backward()
    assert module.hint is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.hint.parameters())
    learning = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert {id(p) for p in module.parameters()} == learning


@pytest.mark.slow
def test_a_killed_student_ends_as_if_it_had_not_been(teacher: Path, tmp_path: Path) -> None:
    overrides = [*FAST, f"distill.teacher={teacher}", "distill.features=0.5", "trainer.checkpoint_seconds=0"]
    whole, killed = weights_whole_and_killed(tmp_path, overrides)
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


def test_the_run_is_named_by_what_the_teacher_s_file_holds(teacher: Path, tmp_path: Path) -> None:
    config = config_of(teacher)
    elsewhere = tmp_path / "moved.safetensors"
    elsewhere.write_bytes(teacher.read_bytes())
    plain, here, digest = compose("train", FAST), fingerprint(config, "data"), teacher_sha256(config)
    assert fingerprint(config_of(elsewhere), "data") == here != fingerprint(plain, "data")
    teacher.unlink()
    assert fingerprint(config, "data", "", digest) == here != fingerprint(config, "data")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=skin_kovac"], "only networks learn from a teacher"),
        (["model.head=dense"], "model.head=dense learns pixels"),
        (["model.frozen_stages=2", "distill.features=1"], "distill.features=1 with model.frozen_stages=2"),
    ],
)
def test_what_cannot_learn_from_a_teacher_is_refused(teacher: Path, overrides: list[str], expected: str) -> None:
    config = compose("train", ["data=digits", f"distill.teacher={teacher}", *overrides])
    with pytest.raises(FigleafError, match=re.escape(expected)):
        require_pupil(config)


@pytest.mark.parametrize("name", ["missing.safetensors", "teacher.pth"])
def test_a_teacher_that_is_no_file_of_ours_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "teacher.pth").write_bytes(b"")
    with pytest.raises(FigleafError, match=rf"distill\.teacher=.*{re.escape(name)}.*figleaf export"):
        train(config_of(tmp_path / name))
    assert not home().exists()


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    config = config_of(write_teacher(tmp_path / "other.safetensors", [f"c{i}" for i in range(10)]))
    with pytest.raises(FigleafError, match=r"distill\.teacher=.*tells c0, .* a teacher needs the same"):
        make_objective(config, inputs_of(config))


def test_damaged_answers_are_named(teacher: Path) -> None:
    config = config_of(teacher)
    inputs = inputs_of(config)
    give_lessons(config, inputs, inputs.rows("train"))
    (file,) = (home() / "lessons").glob("*/logits.npy")
    file.write_bytes(b"half")
    with pytest.raises(FigleafError, match="not what a teacher has said"):
        Lessons.load(file.parent)
