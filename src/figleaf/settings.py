"""The schema of `conf/`: frozen dataclasses with the default, the type and the range of every key of a run.

A file of `conf/` may leave out what has a default here. What commands other than `train` take is in
`figleaf.command_settings`; `figleaf.config` composes, checks and prints configurations.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from figleaf.rules import Rule, at_least, auto_or_at_least, fraction, one_of, positive, seed


@dataclass(frozen=True)
class DataConfig:
    """Which samples, and how they are split."""

    name: str | None = None  # how tables and figures call the data; default: what the manifest says
    source: str = field(default="manifest", metadata=one_of("manifest", "scenes", "digits"))
    manifest: str | None = None  # CSV or Parquet; see `figleaf data index`
    root: str | None = None  # the folder that the manifest's paths start from; default: the manifest's
    classes: list[str] | None = None  # logit order; default: sorted labels
    unsafe: list[str] | None = None  # classes whose probability is the score; [] where nothing is unsafe
    slice_by: str | None = None  # the manifest's column whose values are the slices; default: slice
    count: int = field(default=2000, metadata=at_least(8))  # scenes: how many pictures
    seed: int = field(default=0, metadata=seed())  # scenes and cuts
    size: int = field(default=96, metadata=at_least(32))  # scenes: pixels a side
    calib_fraction: float = field(default=0.1, metadata=fraction())  # cut by group from train, for calibration only
    fold: int | None = field(default=None, metadata=at_least(0))  # cross-validation: this fold becomes val
    folds: int = field(default=5, metadata=at_least(2))
    balance: str = field(default="none", metadata=one_of("none", "class_weights", "sampler"))
    max_pixels: int = field(default=100_000_000, metadata=at_least(1))  # a larger picture is an error row
    cache_gb: float = field(default=20.0, metadata=at_least(0))  # limit of the decode cache


@dataclass(frozen=True)
class AugmentConfig:
    """Label-preserving changes of a training picture, drawn from (seed, epoch, sample)."""

    translate: float = field(default=0.0, metadata=fraction())  # reflected padding, as a fraction of the side
    larger: float = field(default=1.0, metadata=at_least(1))  # decode at size * larger and crop
    reflect: bool = False  # mirror left-right with probability 1/2
    alternate: bool = False  # with reflect: in every other epoch instead of at random; see `figleaf.data.augment`
    scale_min: float = field(default=1.0, metadata=fraction(zero=False, one=True))  # least area of a scale-jitter crop
    color_jitter: float = field(default=0.0, metadata=fraction())
    pca_color: str = field(default="none", metadata=one_of("none", "eig01", "std", "fancy_pca"))
    pca_strength: float = field(default=0.1, metadata=at_least(0))  # AlexNet's sigma

    @property
    def is_off(self) -> bool:
        """Whether pictures stay as they are, in every epoch."""
        return self == AugmentConfig(pca_strength=self.pca_strength)


@dataclass(frozen=True)
class ModelConfig:
    """A VGG: the architecture as data."""

    depth: int = field(default=16, metadata={"rule": Rule(lambda x: x in (11, 13, 16, 19), "one of 11, 13, 16, 19")})
    batch_norm: bool = True
    width: float = field(default=1.0, metadata={"rule": Rule(lambda x: 0 < x <= 4, "0 < x <= 4")})
    head: str = field(default="fc", metadata=one_of("fc", "gap", "dense"))  # dense: logits of every pixel
    dropout: float = field(default=0.5, metadata=fraction())
    input_size: int = field(default=224, metadata=at_least(32))
    adaptive_pool: bool = False  # torchvision's 7x7 adaptive pooling before the fc head
    whiten: bool = False  # the first convolution is computed from the training pictures, and stays; see vgg.whitening
    weights: str = "none"  # none | torchvision:IMAGENET1K_V1 | shallower:PATH | path to .pth .safetensors .npz .h5
    frozen_stages: int = field(default=0, metadata={"rule": Rule(lambda x: 0 <= x <= 5, "0 to 5")})
    checkpoint_activations: bool = False  # less memory, one more forward pass
    # keys: what the keys here say; weights: that of the network in the .safetensors file that `weights` names
    architecture: str = field(default="keys", metadata=one_of("keys", "weights"))
    channels: list[int] | None = None  # of each convolution, in place of those that width gives; pruning sets them
    fc_features: list[int] | None = None  # fc head: of the two hidden layers
    fc_ranks: list[int] | None = None  # fc head: the ranks these are factored to; 0: whole


# The keys of a network that a file with an architecture of its own decides.
ARCHITECTURE = (
    *("depth", "batch_norm", "width", "head", "input_size", "adaptive_pool"),
    *("channels", "fc_features", "fc_ranks"),
)


@dataclass(frozen=True)
class SkinConfig:
    """A classical skin-based system: `figleaf.skin.systems` knows their names, options and defaults."""

    system: str
    input_size: int = field(default=160, metadata=at_least(8))  # 160 x 160: the scale of Fleck's filter is 1
    options: dict[str, bool | int | float | str | None] = field(default_factory=dict)  # the system's own settings


@dataclass(frozen=True)
class SearchConfig:
    """Search by example: train is indexed by these features and asked with val and test; see `figleaf similar`."""

    features: str = field(metadata=one_of("regions", "vgg", "histogram", "thumbnail", "dct"))
    input_size: int = field(default=96, metadata=at_least(1))  # at which pictures are looked at
    weights: str = "none"  # vgg: the file of the convolutions, as model.weights of a network
    options: dict[str, bool | int | float | str | None] = field(default_factory=dict)  # the features' own settings


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move. The batch is the global one, whatever the number of devices."""

    name: str = field(default="sgd", metadata=one_of("sgd", "adamw"))
    lr: float = field(default=0.05, metadata=at_least(0))  # the peak
    momentum: float = field(default=0.9, metadata=fraction())
    nesterov: bool = True
    weight_decay: float = field(default=5e-4, metadata=at_least(0))
    batch_size: int = field(default=64, metadata=at_least(1))
    schedule: str = field(default="one_cycle", metadata=one_of("one_cycle", "constant", "plateau"))
    warmup: float = field(default=0.2, metadata=fraction())  # one_cycle: fraction of the steps
    plateau_factor: float = field(default=0.1, metadata=fraction(zero=False))
    plateau_patience: int = field(default=3, metadata=at_least(0))  # epochs without a better monitor
    plateau_drops: int = field(default=3, metadata=at_least(0))  # training stops instead of one more drop
    label_smoothing: float = field(default=0.0, metadata=fraction())
    bn_l1: float = field(default=0.0, metadata=at_least(0))  # slimming: L1 penalty on the batch norms' scales
    dice: float = field(default=0.0, metadata=at_least(0))  # dense head: weight of the soft Dice loss that is added
    clip_norm: float | None = field(default=None, metadata=at_least(0))
    ema_decay: float = field(default=0.0, metadata=fraction())  # 0: no weight averaging
    head_lr_factor: float = field(default=1.0, metadata=at_least(0))
    bn_bias_lr_factor: float = field(default=1.0, metadata=positive())  # of batch norms; their decay is divided by it
    lr_scaling: str = field(default="none", metadata=one_of("none", "linear"))  # linear: lr * batch_size / 256


@dataclass(frozen=True)
class DistillConfig:
    """Learning from what a trained network says of each picture, besides the labels; nothing without a `teacher`."""

    teacher: str | None = None  # weights of a trained run: `figleaf export run=... format=[safetensors]` writes them
    temperature: float = field(default=4.0, metadata=positive())  # by which both networks' logits are divided
    # Of the teacher's word in the loss; the labels have the rest.
    weight: float = field(default=0.9, metadata=fraction(zero=False, one=True))
    features: float = field(default=0.0, metadata=at_least(0))  # weight of matching the last stage's mean activations
    views: int = field(default=4, metadata=at_least(1))  # augmented views of a picture that the teacher looks at


@dataclass(frozen=True)
class TrainerConfig:
    """Where and for how long."""

    epochs: int = field(default=10, metadata=at_least(0))  # 0: train nothing, measure the weights as they start
    max_steps: int | None = field(default=None, metadata=at_least(1))
    accelerator: str = field(default="cpu", metadata=one_of("cpu", "gpu"))
    devices: int = field(default=1, metadata=at_least(1))
    num_nodes: int = field(default=1, metadata=at_least(1))
    precision: str = field(default="32-true", metadata=one_of("32-true", "bf16-mixed", "16-mixed"))
    channels_last: bool = True
    max_device_batch: int | None = field(default=None, metadata=at_least(1))  # larger shares are accumulated
    workers: int = field(default=0, metadata=at_least(0))  # processes that augment
    threads: int | None = field(default=None, metadata=at_least(1))
    deterministic: bool = True
    # Side in px of the first steps' pictures; auto: half of model.input_size where that can be done.
    grow_from: int | str | None = field(default=None, metadata=auto_or_at_least(32))
    grow_share: float = field(default=0.5, metadata=fraction(zero=False, one=True))  # of the steps, until full size
    target: float | None = None  # of the monitored metric on val: training stops once it is reached
    early_stopping: int = field(default=0, metadata=at_least(0))  # epochs without a better monitor; 0: never
    checkpoint_seconds: float = field(default=60.0, metadata=at_least(0))
    log_every_steps: int = field(default=10, metadata=at_least(1))
    intervals: int = field(default=1000, metadata=at_least(0))  # bootstrap resamples of the final metrics; 0: none


@dataclass(frozen=True)
class TrackingConfig:
    """Which MLflow."""

    uri: str | None = None  # default: SQLite in FIGLEAF_HOME
    experiment: str = "figleaf"
    delivery_seconds: float = field(default=30.0, metadata=at_least(0))  # longest wait for the tracker at the end


@dataclass(frozen=True)
class MethodConfig:
    """How a network is asked about a picture; see `figleaf.evaluate.method.Method`, which checks the values."""

    # single | dense | multi_crop | dense_multi_crop | windows | proposals | skin_regions; in a study also search: the
    # features of the last convolutions index train, and val and test are searched for in it
    method: str = "single"
    scales: list[float] = field(default_factory=lambda: [1.0])  # factors of the input size, or pixels from 32
    flip: bool = False  # average with the mirror image
    crops: int = 5  # multi_crop: a side of the grid
    perturb: list[str] = field(
        default_factory=list
    )  # score test under these, too; see `figleaf.evaluate.perturbations`
    aggregate: str = "max"  # windows, proposals, skin_regions: max | top3 | mean | noisy_or of the boxes
    explain: str | None = None  # measure the class maps of this method, too: cam, gradcam, ..., or random, gaussian
    exported: str | None = None  # in a study: score with the weights in this file: onnx | onnx_float16 | onnx_int8


@dataclass(frozen=True)
class TrainConfig:
    """One run."""

    data: DataConfig
    augment: AugmentConfig
    # A skin system is fitted, and of a search an index is made: of what follows only the seed counts for them
    model: ModelConfig | SkinConfig | SearchConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    distill: DistillConfig = field(default_factory=DistillConfig)
    seed: int = field(default=1, metadata=seed())
    name: str | None = None  # default: made from what varies
    study: str | None = None
    arm: str | None = None
    parent_run_id: str | None = None  # the study's run in the tracker
    resume: str = "auto"  # auto | never | path of a checkpoint
    evaluation: MethodConfig | None = None  # train nothing: measure the finished run of this configuration so

    @property
    def network(self) -> ModelConfig:
        """The model where it is a network, which is what the caller has made sure of."""
        if not isinstance(self.model, ModelConfig):
            raise TypeError(f"{type(self.model).__name__} is no network")
        return self.model

    @property
    def weights(self) -> str:
        """What the model starts from; "none" for a skin system, which is fitted from nothing."""
        return "none" if isinstance(self.model, SkinConfig) else self.model.weights


def groups_of(hint: Any) -> tuple[type, ...]:
    """The dataclasses that a key's type admits, one of which its values spell out; none for a plain value.

    An optional group, `MethodConfig | None`, is none of these: no preset names it.
    """
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    found = tuple(kind for kind in kinds if dataclasses.is_dataclass(kind) and isinstance(kind, type))
    return found if len(found) == len(kinds) else ()
