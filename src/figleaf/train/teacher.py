"""What a trained network, the teacher, says of the training pictures: asked once, kept, and read by every run.

A teacher of full size costs more than the training of a small student. So it looks at a fixed number of augmented views
of each picture, and the student is shown these very views, one an epoch in turn: "consistent teaching" (Beyer et al.
2022, "Knowledge distillation: a good teacher is patient and consistent"), with a bank of views in place of endless new
ones. The views are those of no run's seed, so that the runs of a study share what was said.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from figleaf.config import ModelConfig, TrainConfig, home, teacher_sha256
from figleaf.data.augment import mirrored_in_turn, sample_generator
from figleaf.data.collate import image_batch
from figleaf.errors import FigleafError
from figleaf.files import atomic_path
from figleaf.progress import track
from figleaf.train.inputs import Inputs, decode_for
from figleaf.train.measure import device_of
from figleaf.vgg.network import HEAD, VGG
from figleaf.vgg.scorer import TorchScorer

VIEW_SEED = 0  # of the views: the same ones for all runs
_BATCH = 64
_FORMAT = 1  # counts up when what is kept comes to mean something else

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """The teacher's answers to `views` views of the n training rows, memory-mapped.

    `logits` (views, n, C); `features` (views, n, F) the spatial means of its last stage, standardised over all of them;
    F is 0 where they were not asked for.
    """

    logits: FloatArray
    features: FloatArray

    @property
    def views(self) -> int:
        """How many views of a picture the teacher has seen."""
        return len(self.logits)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `give_lessons` has written. Raises `FigleafError` for anything else."""
        try:
            logits, features = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES)
            # numpy opens other kinds of files, too.
            for values in (logits, features):
                if not (isinstance(values, np.ndarray) and values.dtype == np.float32 and values.ndim == 3):
                    raise ValueError("an array of another kind")
            if logits.shape[:2] != features.shape[:2]:
                raise ValueError(f"{logits.shape} logits and {features.shape} features")
            return cls(logits, features)
        except (OSError, ValueError, EOFError) as error:
            raise FigleafError(f"{folder}: not what a teacher has said ({error}); delete the folder") from error


_FILES = ("logits.npy", "features.npy")


def require_pupil(config: TrainConfig) -> None:
    """Raises `FigleafError` when `config` names a teacher for something that cannot learn from one."""
    settings, model = config.distill, config.model
    if settings.teacher is None:
        return
    if not isinstance(model, ModelConfig):
        raise FigleafError("distill.teacher: only networks learn from a teacher, not skin systems and searches")
    if model.head == "dense":
        raise FigleafError("distill.teacher: is asked for classes of pictures, and model.head=dense learns pixels")
    if settings.features and model.frozen_stages:
        raise FigleafError(
            f"distill.features={settings.features:g} with model.frozen_stages={model.frozen_stages}: what the last "
            "stage gives is matched where all stages learn; use one of them"
        )


def give_lessons(config: TrainConfig, inputs: Inputs, rows: NDArray[np.int64]) -> Lessons:
    """What the teacher of `config` says of the training `rows`: read where it is kept, else asked for and kept.

    Waits for another process that is asking for the same. Raises `FigleafError` when the teacher tells other classes
    apart, or its file is not one of ours.
    """
    assert config.distill.teacher is not None, "what this module is for"
    file = Path(config.distill.teacher).expanduser()
    teacher = TorchScorer.load(file, device_of(config))
    _require_same_classes(teacher, inputs, file)
    views = 1 if config.augment.is_off else config.distill.views
    folder = home() / "lessons" / _key(config, inputs, rows, views)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        # The last one that is written says that all are there.
        if not (folder / _FILES[-1]).is_file():
            _ask(teacher.net, _at_size_of(teacher, config, inputs), rows, views, folder, config.distill.features > 0)
    return Lessons.load(folder)


def _at_size_of(teacher: TorchScorer, config: TrainConfig, inputs: Inputs) -> Callable[[int, int], NDArray[np.uint8]]:
    """View number `view` of a manifest row, (S, S, 3), at the teacher's size; to a pixel it is the student's."""
    augmentation = inputs.augmentation(config.augment, teacher.input_size, config.seed)
    side = augmentation.view.geometry.source_size
    pixels = decode_for(inputs.manifest, side, config.data, home()).pixels

    def seen(view: int, row: int) -> NDArray[np.uint8]:
        rgb_u8 = augmentation(pixels[row], sample_generator(VIEW_SEED, view, row))
        return mirrored_in_turn(rgb_u8, VIEW_SEED, view, row) if config.augment.alternate else rgb_u8

    return seen


@torch.inference_mode()
def _ask(
    net: VGG,
    picture: Callable[[int, int], NDArray[np.uint8]],
    rows: NDArray[np.int64],
    views: int,
    folder: Path,
    with_features: bool,
) -> None:
    device = next(net.parameters()).device
    width = net.convolutions[list(net.convolutions)[-1]].out_channels if with_features else 0
    logits = np.empty((views, len(rows), net.classes), dtype=np.float32)
    features = np.empty((views, len(rows), width), dtype=np.float32)
    starts = [(view, start) for view in range(views) for start in range(0, len(rows), _BATCH)]
    for view, start in track(starts, "Asking the teacher", total=len(starts)):
        part = slice(start, start + _BATCH)
        images = image_batch([picture(view, int(row)) for row in rows[part]]).to(device)
        maps = net.up_to_stage(images, HEAD)
        logits[view, part] = net.from_stage(maps, HEAD).float().cpu().numpy()
        if with_features:
            features[view, part] = maps.mean((2, 3)).float().cpu().numpy()
    if with_features:
        # Each counts alike, whatever its scale; one that never moves stays at zero.
        features -= features.mean((0, 1), dtype=np.float64).astype(np.float32)
        features /= np.maximum(features.std((0, 1), dtype=np.float64), 1e-6).astype(np.float32)
    for name, values in zip(_FILES, (logits, features), strict=True):
        with atomic_path(folder / name) as temporary:
            np.save(temporary, values, allow_pickle=False)


def _key(config: TrainConfig, inputs: Inputs, rows: NDArray[np.int64], views: int) -> str:
    """Of everything that the answers depend on."""
    said = {
        "format": _FORMAT,
        "teacher": teacher_sha256(config),
        "data": inputs.data_hash,
        "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        "augment": asdict(config.augment),
        # The colours' axes are fitted to the student's pictures.
        "colors": [config.model.input_size, config.seed] if config.augment.pca_color in ("eig01", "std") else [],
        "views": views,
        "features": config.distill.features > 0,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _require_same_classes(teacher: TorchScorer, inputs: Inputs, file: Path) -> None:
    if teacher.net.head == "dense":
        raise FigleafError(f"distill.teacher={file}: a network with a dense head marks pixels; a teacher tells classes")
    own = (tuple(inputs.manifest.classes), frozenset(inputs.manifest.unsafe))
    if own != (teacher.classes, frozenset(teacher.unsafe)):
        raise FigleafError(
            f"distill.teacher={file}: tells {', '.join(teacher.classes)} apart (unsafe: {', '.join(teacher.unsafe)}), "
            f"and the data holds {', '.join(own[0])} (unsafe: {', '.join(sorted(own[1]))}); a teacher needs the same"
        )
