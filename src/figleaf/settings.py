"""The schema of `conf/`: frozen dataclasses with the default, the type and the range of every key.

A file of `conf/` may leave out what has a default here. `figleaf.config` composes, checks and prints configurations.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy: `holds(value)`, said to the user as `expected`."""

    holds: Callable[[Any], bool]
    expected: str


def _one_of(*names: str) -> dict[str, Rule]:
    return {"rule": Rule(lambda value: value in names, "one of " + ", ".join(names))}


def _at_least(low: float) -> dict[str, Rule]:
    return {"rule": Rule(lambda value: value is None or value >= low, f"at least {low}")}


def _positive() -> dict[str, Rule]:
    return {"rule": Rule(lambda value: value is None or value > 0, "more than 0")}


def _seed() -> dict[str, Rule]:
    # What numpy's older generators take, which scikit-learn's splits and Lightning still use.
    return {"rule": Rule(lambda value: 0 <= value < 2**32, "0 to 4294967295")}


def _fraction(*, zero: bool = True, one: bool = False) -> dict[str, Rule]:
    text = f"0 {'<=' if zero else '<'} x {'<=' if one else '<'} 1"
    return {"rule": Rule(lambda x: (x > 0 or (zero and x == 0)) and (x < 1 or (one and x == 1)), text)}


@dataclass(frozen=True)
class DataConfig:
    """Which samples, and how they are split."""

    name: str | None = None  # how tables and figures call the data; default: what the manifest says
    source: str = field(default="manifest", metadata=_one_of("manifest", "scenes", "digits"))
    manifest: str | None = None  # CSV or Parquet; see `figleaf data index`
    root: str | None = None  # the folder that the manifest's paths start from; default: the manifest's
    classes: list[str] | None = None  # logit order; default: sorted labels
    unsafe: list[str] | None = None  # classes whose probability is the score; [] where nothing is unsafe
    slice_by: str | None = None  # the manifest's column whose values are the slices; default: slice
    count: int = field(default=2000, metadata=_at_least(8))  # scenes: how many pictures
    seed: int = field(default=0, metadata=_seed())  # scenes and cuts
    size: int = field(default=96, metadata=_at_least(32))  # scenes: pixels a side
    calib_fraction: float = field(default=0.1, metadata=_fraction())  # cut by group from train, for calibration only
    fold: int | None = field(default=None, metadata=_at_least(0))  # cross-validation: this fold becomes val
    folds: int = field(default=5, metadata=_at_least(2))
    balance: str = field(default="none", metadata=_one_of("none", "class_weights", "sampler"))
    max_pixels: int = field(default=100_000_000, metadata=_at_least(1))  # a larger picture is an error row
    cache_gb: float = field(default=20.0, metadata=_at_least(0))  # limit of the decode cache


@dataclass(frozen=True)
class AugmentConfig:
    """Label-preserving changes of a training picture, drawn from (seed, epoch, sample)."""

    translate: float = field(default=0.0, metadata=_fraction())  # reflected padding, as a fraction of the side
    larger: float = field(default=1.0, metadata=_at_least(1))  # decode at size * larger and crop
    reflect: bool = False  # mirror left-right with probability 1/2
    alternate: bool = False  # with reflect: in every other epoch instead of at random; see `figleaf.data.augment`
    scale_min: float = field(default=1.0, metadata=_fraction(zero=False, one=True))  # least area of a scale-jitter crop
    color_jitter: float = field(default=0.0, metadata=_fraction())
    pca_color: str = field(default="none", metadata=_one_of("none", "eig01", "std", "fancy_pca"))
    pca_strength: float = field(default=0.1, metadata=_at_least(0))  # AlexNet's sigma

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
    head: str = field(default="fc", metadata=_one_of("fc", "gap", "dense"))  # dense: logits of every pixel
    dropout: float = field(default=0.5, metadata=_fraction())
    input_size: int = field(default=224, metadata=_at_least(32))
    adaptive_pool: bool = False  # torchvision's 7x7 adaptive pooling before the fc head
    whiten: bool = False  # the first convolution is computed from the training pictures, and stays; see vgg.whitening
    weights: str = "none"  # none | torchvision:IMAGENET1K_V1 | shallower:PATH | path to .pth .safetensors .npz .h5
    frozen_stages: int = field(default=0, metadata={"rule": Rule(lambda x: 0 <= x <= 5, "0 to 5")})
    checkpoint_activations: bool = False  # less memory, one more forward pass
    # keys: what the keys here say; weights: that of the network in the .safetensors file that `weights` names
    architecture: str = field(default="keys", metadata=_one_of("keys", "weights"))
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
    input_size: int = field(default=160, metadata=_at_least(8))  # 160 x 160: the scale of Fleck's filter is 1
    options: dict[str, bool | int | float | str | None] = field(default_factory=dict)  # the system's own settings


@dataclass(frozen=True)
class SearchConfig:
    """Search by example: train is indexed by these features and asked with val and test; see `figleaf similar`."""

    features: str = field(metadata=_one_of("regions", "vgg", "histogram", "thumbnail", "dct"))
    input_size: int = field(default=96, metadata=_at_least(1))  # at which pictures are looked at
    weights: str = "none"  # vgg: the file of the convolutions, as model.weights of a network
    options: dict[str, bool | int | float | str | None] = field(default_factory=dict)  # the features' own settings


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move. The batch is the global one, whatever the number of devices."""

    name: str = field(default="sgd", metadata=_one_of("sgd", "adamw"))
    lr: float = field(default=0.05, metadata=_at_least(0))  # the peak
    momentum: float = field(default=0.9, metadata=_fraction())
    nesterov: bool = True
    weight_decay: float = field(default=5e-4, metadata=_at_least(0))
    batch_size: int = field(default=64, metadata=_at_least(1))
    schedule: str = field(default="one_cycle", metadata=_one_of("one_cycle", "constant", "plateau"))
    warmup: float = field(default=0.2, metadata=_fraction())  # one_cycle: fraction of the steps
    plateau_factor: float = field(default=0.1, metadata=_fraction(zero=False))
    plateau_patience: int = field(default=3, metadata=_at_least(0))  # epochs without a better monitor
    plateau_drops: int = field(default=3, metadata=_at_least(0))  # training stops instead of one more drop
    label_smoothing: float = field(default=0.0, metadata=_fraction())
    bn_l1: float = field(default=0.0, metadata=_at_least(0))  # slimming: L1 penalty on the batch norms' scales
    dice: float = field(default=0.0, metadata=_at_least(0))  # dense head: weight of the soft Dice loss that is added
    clip_norm: float | None = field(default=None, metadata=_at_least(0))
    ema_decay: float = field(default=0.0, metadata=_fraction())  # 0: no weight averaging
    head_lr_factor: float = field(default=1.0, metadata=_at_least(0))
    bn_bias_lr_factor: float = field(default=1.0, metadata=_positive())  # of batch norms; their decay is divided by it
    lr_scaling: str = field(default="none", metadata=_one_of("none", "linear"))  # linear: lr * batch_size / 256


@dataclass(frozen=True)
class DistillConfig:
    """Learning from what a trained network says of each picture, besides the labels; nothing without a `teacher`."""

    teacher: str | None = None  # weights of a trained run: `figleaf export run=... format=[safetensors]` writes them
    temperature: float = field(default=4.0, metadata=_positive())  # by which both networks' logits are divided
    # Of the teacher's word in the loss; the labels have the rest.
    weight: float = field(default=0.9, metadata=_fraction(zero=False, one=True))
    features: float = field(default=0.0, metadata=_at_least(0))  # weight of matching the last stage's mean activations
    views: int = field(default=4, metadata=_at_least(1))  # augmented views of a picture that the teacher looks at


@dataclass(frozen=True)
class TrainerConfig:
    """Where and for how long."""

    epochs: int = field(default=10, metadata=_at_least(0))  # 0: train nothing, measure the weights as they start
    max_steps: int | None = field(default=None, metadata=_at_least(1))
    accelerator: str = field(default="cpu", metadata=_one_of("cpu", "gpu"))
    devices: int = field(default=1, metadata=_at_least(1))
    num_nodes: int = field(default=1, metadata=_at_least(1))
    precision: str = field(default="32-true", metadata=_one_of("32-true", "bf16-mixed", "16-mixed"))
    channels_last: bool = True
    max_device_batch: int | None = field(default=None, metadata=_at_least(1))  # larger shares are accumulated
    workers: int = field(default=0, metadata=_at_least(0))  # processes that augment
    threads: int | None = field(default=None, metadata=_at_least(1))
    deterministic: bool = True
    grow_from: int | None = field(default=None, metadata=_at_least(32))  # side in px of the first steps' pictures
    grow_share: float = field(default=0.5, metadata=_fraction(zero=False, one=True))  # of the steps, until full size
    target: float | None = None  # of the monitored metric on val: training stops once it is reached
    early_stopping: int = field(default=0, metadata=_at_least(0))  # epochs without a better monitor; 0: never
    checkpoint_seconds: float = field(default=60.0, metadata=_at_least(0))
    log_every_steps: int = field(default=10, metadata=_at_least(1))
    intervals: int = field(default=1000, metadata=_at_least(0))  # bootstrap resamples of the final metrics; 0: none


@dataclass(frozen=True)
class TrackingConfig:
    """Which MLflow."""

    uri: str | None = None  # default: SQLite in FIGLEAF_HOME
    experiment: str = "figleaf"
    delivery_seconds: float = field(default=30.0, metadata=_at_least(0))  # longest wait for the tracker at the end


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
    seed: int = field(default=1, metadata=_seed())
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


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MethodConfig):
    """A run, an exported file, the samples to measure it on, and by which method."""

    run: str
    data: DataConfig
    tracking: TrackingConfig
    split: str = "test"
    batch_size: int = field(default=64, metadata=_at_least(1))
    out: str | None = None  # default: FIGLEAF_HOME/evaluations/<run>-<data>-<split>.parquet
    intervals: int = field(default=1000, metadata=_at_least(0))


@dataclass(frozen=True)
class ExportConfig:
    """A run and the files to make of it."""

    run: str
    tracking: TrackingConfig
    format: list[str] = field(default_factory=lambda: ["safetensors", "onnx"])
    out: str | None = None  # default: ./export/<run name>
    tolerance: float = field(default=1e-3, metadata=_at_least(0))  # greatest logit difference allowed
    # of the kernels in tfjs: half the bytes by default; float16 and uint8 have tolerances of their own
    tfjs_dtype: str = field(default="float16", metadata=_one_of("float16", "float32", "uint8"))
    max_drop: float = field(default=0.005, metadata=_at_least(0))  # of AUROC on val, that a lossy format may lose
    calibration_images: int = field(default=256, metadata=_at_least(1))  # of the training split, for onnx_int8
    parity_images: int = field(default=64, metadata=_at_least(1))
    images: str | None = None  # compare on the pictures in this folder instead of the run's own
    licence: str = ""  # what the weights may be used under, for the model card
    register: str | None = None  # the name of a registered model that gets model.onnx as its next version


@dataclass(frozen=True)
class CompressConfig:
    """A network that is to get smaller, and how; with both steps it is pruned first."""

    run: str
    tracking: TrackingConfig
    prune: float | None = field(default=None, metadata=_fraction(zero=False))  # the share of `of` that is left
    of: str = field(default="macs", metadata=_one_of("macs", "parameters"))
    by: str = field(default="magnitude", metadata=_one_of("magnitude", "bn_scale"))  # what makes a channel important
    multiple: int = field(default=8, metadata=_at_least(1))  # a layer keeps a multiple of so many channels
    svd: float | None = field(
        default=None, metadata=_fraction(zero=False, one=True)
    )  # of the fc layers' squared singular values, kept
    ranks: list[int] | None = None  # or the ranks of fc1 and fc2; 0 leaves one whole
    out: str | None = None  # default: ./compressed/<run name>-<steps>.safetensors


@dataclass(frozen=True)
class CalibrateConfig:
    """A run whose scores are to mean something, and what its policy is to promise."""

    run: str
    tracking: TrackingConfig
    file: str | None = None  # an exported file of the run, whose scores are calibrated instead of the checkpoint's
    target_fpr: float | None = field(
        default=0.05, metadata=_fraction(zero=False)
    )  # of safe pictures, at most, that are blocked
    target_recall: float | None = field(
        default=0.9, metadata=_fraction(zero=False)
    )  # of unsafe pictures, at least, that do not pass
    confidence: float = field(default=0.95, metadata=_fraction(zero=False))
    seed: int = field(default=0, metadata=_seed())  # which picture of each group counts
    out: str | None = None  # default: ./<run name>-policy.json


@dataclass(frozen=True)
class CheckConfig:
    """Samples to look at, and the augmentation that is to keep their labels."""

    data: DataConfig
    augment: AugmentConfig
    input_size: int = field(default=64, metadata=_at_least(32))


@dataclass(frozen=True)
class LauncherConfig:
    """Where the trials of a study run. All keys but `executor` are about jobs, and refused where there are none."""

    # forkserver: processes that end with the command; slurm: jobs of a cluster; local-process: jobs on this machine
    executor: str = field(default="forkserver", metadata=_one_of("forkserver", "slurm", "local-process"))
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: float = field(default=240.0, metadata=_positive())  # a job that is not done by then goes on in another
    signal_delay_s: int = field(default=90, metadata=_at_least(1))  # so long before its time is up, a job is told
    max_requeues: int = field(default=10, metadata=_at_least(0))  # of one job, for its time or for a more urgent job
    cpus_per_task: int | None = field(default=None, metadata=_at_least(1))  # default: trainer.workers + 1
    mem_gb: float | None = field(default=None, metadata=_positive())  # of each node; default: the cluster's
    gpus_per_node: int | None = field(default=None, metadata=_at_least(0))  # default: trainer.devices on a GPU
    setup: list[str] = field(default_factory=list)  # lines of the job script before the trial
    additional: dict[str, str | int | bool] = field(default_factory=dict)  # options of sbatch, such as {exclusive:true}
    folder: str | None = None  # of job scripts and logs; default: FIGLEAF_HOME/studies/NAME/jobs


@dataclass(frozen=True)
class LaunchConfig:
    """The launcher of a study, chosen with the command that runs it: it is no part of any run."""

    launcher: LauncherConfig


@dataclass(frozen=True)
class SimilarConfig:
    """Pictures to index or to search with, and what they are abstracted to."""

    data: DataConfig
    tracking: TrackingConfig
    features: str = field(default="regions", metadata=_one_of("regions", "vgg", "histogram", "thumbnail", "dct"))
    split: str = "all"
    run: str | None = None  # vgg: the network of a run
    weights: str | None = None  # vgg: or of a file
    size: int | None = field(default=None, metadata=_at_least(1))  # default: what suits the features
    distance: str = field(default="quadratic", metadata=_one_of("quadratic", "hellinger"))  # histogram
    words: int = field(default=64, metadata=_at_least(2))  # regions
    codebook: str = field(default="kmeans", metadata=_one_of("kmeans", "gmm"))  # regions
    seed: int = field(default=0, metadata=_seed())  # regions
    intervals: int = field(default=1000, metadata=_at_least(0))  # resamples of an evaluation


@dataclass(frozen=True)
class VisualizeConfig:
    """A network to look into, and the picture it is to look at."""

    run: str
    tracking: TrackingConfig
    image: str | None = None
    filters: int = field(default=8, metadata=_at_least(1))  # of each layer
    layers: list[str] | None = None  # names as in keras.applications; default: one a block
    order: str = field(default="first", metadata=_one_of("first", "selective"))
    recipe: str = field(default="fourier", metadata=_one_of("fourier", "classic"))
    steps: int | None = field(default=None, metadata=_at_least(1))  # default: the recipe's
    objective: str = field(default="mean", metadata=_one_of("mean", "sum", "centre"))
    size: int | None = field(default=None, metadata=_at_least(16))  # default: the network's input size
    maps: list[str] | None = None  # methods; default: one exact, or the nearest to it
    class_name: str | None = None  # default: the class with the highest logit
    seed: int = field(default=0, metadata=_seed())
    device: str = field(default="auto", metadata=_one_of("auto", "cpu", "cuda"))
    out: str | None = None  # default: ./visualize/<run name>


@dataclass(frozen=True)
class WebConfig:
    """A network to make a page of."""

    run: str
    tracking: TrackingConfig
    out: str | None = None  # default: ./page/<run name>
    dtype: str = field(default="float16", metadata=_one_of("float16", "float32", "uint8"))
    filters: int = field(default=18, metadata=_at_least(0))  # of each layer in the gallery
    layers: list[str] | None = None  # of the gallery; default: one a block
    recipe: str = field(default="fourier", metadata=_one_of("fourier", "classic"))
    steps: int | None = field(default=None, metadata=_at_least(1))  # default: the recipe's
    size: int | None = field(default=None, metadata=_at_least(16))  # default: the input size, at most 96
    seed: int = field(default=0, metadata=_seed())
    device: str = field(default="auto", metadata=_one_of("auto", "cpu", "cuda"))
    licence: str = ""  # what the weights may be used under
    policy: str | None = None  # a file of `figleaf calibrate`
    keep: bool = True  # the single file with the run's artifacts


@dataclass(frozen=True)
class ReportConfig:
    """A run to tell of on one page."""

    run: str
    tracking: TrackingConfig
    out: str | None = None  # default: ./report/<run name>.html
    errors: int = field(default=12, metadata=_at_least(0))  # of each kind
    map: str | None = None  # method of the class maps; default: one exact, or the nearest to it
    show: bool = False  # the pictures themselves, covered until asked, rather than blurred for good
    keep: bool = True  # the page with the run's artifacts


ROOTS: Mapping[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "compress": CompressConfig,
    "calibrate": CalibrateConfig,
    "check": CheckConfig,
    "launch": LaunchConfig,
    "similar": SimilarConfig,
    "visualize": VisualizeConfig,
    "report": ReportConfig,
    "web": WebConfig,
}


def groups_of(hint: Any) -> tuple[type, ...]:
    """The dataclasses that a key's type admits, one of which its values spell out; none for a plain value.

    An optional group, `MethodConfig | None`, is none of these: no preset names it.
    """
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    found = tuple(kind for kind in kinds if dataclasses.is_dataclass(kind) and isinstance(kind, type))
    return found if len(found) == len(kinds) else ()
