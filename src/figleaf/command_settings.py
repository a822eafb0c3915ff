"""The schema of what commands other than `train` take, as `figleaf.settings` is that of a run; `ROOTS`: of them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from figleaf.rules import at_least, fraction, one_of, positive, seed
from figleaf.settings import AugmentConfig, DataConfig, MethodConfig, TrackingConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MethodConfig):
    """A run, an exported file, the samples to measure it on, and by which method."""

    run: str
    data: DataConfig
    tracking: TrackingConfig
    split: str = "test"
    batch_size: int = field(default=64, metadata=at_least(1))
    out: str | None = None  # default: FIGLEAF_HOME/evaluations/<run>-<data>-<split>.parquet
    intervals: int = field(default=1000, metadata=at_least(0))


@dataclass(frozen=True)
class ExportConfig:
    """A run and the files to make of it."""

    run: str
    tracking: TrackingConfig
    format: list[str] = field(default_factory=lambda: ["safetensors", "onnx"])
    out: str | None = None  # default: ./export/<run name>
    tolerance: float = field(default=1e-3, metadata=at_least(0))  # greatest logit difference allowed
    # of the kernels in tfjs: half the bytes by default; float16 and uint8 have tolerances of their own
    tfjs_dtype: str = field(default="float16", metadata=one_of("float16", "float32", "uint8"))
    max_drop: float = field(default=0.005, metadata=at_least(0))  # of AUROC on val, that a lossy format may lose
    calibration_images: int = field(default=256, metadata=at_least(1))  # of the training split, for onnx_int8
    parity_images: int = field(default=64, metadata=at_least(1))
    images: str | None = None  # compare on the pictures in this folder instead of the run's own
    licence: str = ""  # what the weights may be used under, for the model card
    register: str | None = None  # the name of a registered model that gets model.onnx as its next version


@dataclass(frozen=True)
class CompressConfig:
    """A network that is to get smaller, and how; with both steps it is pruned first."""

    run: str
    tracking: TrackingConfig
    prune: float | None = field(default=None, metadata=fraction(zero=False))  # the share of `of` that is left
    of: str = field(default="macs", metadata=one_of("macs", "parameters"))
    by: str = field(default="magnitude", metadata=one_of("magnitude", "bn_scale"))  # what makes a channel important
    multiple: int = field(default=8, metadata=at_least(1))  # a layer keeps a multiple of so many channels
    svd: float | None = field(
        default=None, metadata=fraction(zero=False, one=True)
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
        default=0.05, metadata=fraction(zero=False)
    )  # of safe pictures, at most, that are blocked
    target_recall: float | None = field(
        default=0.9, metadata=fraction(zero=False)
    )  # of unsafe pictures, at least, that do not pass
    confidence: float = field(default=0.95, metadata=fraction(zero=False))
    seed: int = field(default=0, metadata=seed())  # which picture of each group counts
    out: str | None = None  # default: ./<run name>-policy.json


@dataclass(frozen=True)
class CheckConfig:
    """Samples to look at, and the augmentation that is to keep their labels."""

    data: DataConfig
    augment: AugmentConfig
    input_size: int = field(default=64, metadata=at_least(32))


@dataclass(frozen=True)
class LauncherConfig:
    """Where the trials of a study run. All keys but `executor` are about jobs, and refused where there are none."""

    # forkserver: processes that end with the command; slurm: jobs of a cluster; local-process: jobs on this machine
    executor: str = field(default="forkserver", metadata=one_of("forkserver", "slurm", "local-process"))
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: float = field(default=240.0, metadata=positive())  # a job that is not done by then goes on in another
    signal_delay_s: int = field(default=90, metadata=at_least(1))  # so long before its time is up, a job is told
    max_requeues: int = field(default=10, metadata=at_least(0))  # of one job, for its time or for a more urgent job
    cpus_per_task: int | None = field(default=None, metadata=at_least(1))  # default: trainer.workers + 1
    mem_gb: float | None = field(default=None, metadata=positive())  # of each node; default: the cluster's
    gpus_per_node: int | None = field(default=None, metadata=at_least(0))  # default: trainer.devices on a GPU
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
    features: str = field(default="regions", metadata=one_of("regions", "vgg", "histogram", "thumbnail", "dct"))
    split: str = "all"
    run: str | None = None  # vgg: the network of a run
    weights: str | None = None  # vgg: or of a file
    size: int | None = field(default=None, metadata=at_least(1))  # default: what suits the features
    distance: str = field(default="quadratic", metadata=one_of("quadratic", "hellinger"))  # histogram
    words: int = field(default=64, metadata=at_least(2))  # regions
    codebook: str = field(default="kmeans", metadata=one_of("kmeans", "gmm"))  # regions
    seed: int = field(default=0, metadata=seed())  # regions
    intervals: int = field(default=1000, metadata=at_least(0))  # resamples of an evaluation


@dataclass(frozen=True)
class VisualizeConfig:
    """A network to look into, and the picture it is to look at."""

    run: str
    tracking: TrackingConfig
    image: str | None = None
    filters: int = field(default=8, metadata=at_least(1))  # of each layer
    layers: list[str] | None = None  # names as in keras.applications; default: one a block
    order: str = field(default="first", metadata=one_of("first", "selective"))
    recipe: str = field(default="fourier", metadata=one_of("fourier", "classic"))
    steps: int | None = field(default=None, metadata=at_least(1))  # default: the recipe's
    objective: str = field(default="mean", metadata=one_of("mean", "sum", "centre"))
    size: int | None = field(default=None, metadata=at_least(16))  # default: the network's input size
    maps: list[str] | None = None  # methods; default: one exact, or the nearest to it
    class_name: str | None = None  # default: the class with the highest logit
    seed: int = field(default=0, metadata=seed())
    device: str = field(default="auto", metadata=one_of("auto", "cpu", "cuda"))
    out: str | None = None  # default: ./visualize/<run name>


@dataclass(frozen=True)
class WebConfig:
    """A network to make a page of."""

    run: str
    tracking: TrackingConfig
    out: str | None = None  # default: ./page/<run name>
    dtype: str = field(default="float16", metadata=one_of("float16", "float32", "uint8"))
    filters: int = field(default=18, metadata=at_least(0))  # of each layer in the gallery
    layers: list[str] | None = None  # of the gallery; default: one a block
    recipe: str = field(default="fourier", metadata=one_of("fourier", "classic"))
    steps: int | None = field(default=None, metadata=at_least(1))  # default: the recipe's
    size: int | None = field(default=None, metadata=at_least(16))  # default: the input size, at most 96
    seed: int = field(default=0, metadata=seed())
    device: str = field(default="auto", metadata=one_of("auto", "cpu", "cuda"))
    licence: str = ""  # what the weights may be used under
    policy: str | None = None  # a file of `figleaf calibrate`
    keep: bool = True  # the single file with the run's artifacts


@dataclass(frozen=True)
class ReportConfig:
    """A run to tell of on one page."""

    run: str
    tracking: TrackingConfig
    out: str | None = None  # default: ./report/<run name>.html
    errors: int = field(default=12, metadata=at_least(0))  # of each kind
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
