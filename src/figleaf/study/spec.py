"""The study file: `experiments/NAME/study.yaml` names the question, the arms, the seeds and the table."""

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figleaf.config import MethodConfig, from_dict
from figleaf.errors import FigleafError
from figleaf.rules import Rule, one_of
from figleaf.study.plain_yaml import read_yaml
from figleaf.study.search.spec import SearchSection, search_spelled_out

FILE_NAME = "study.yaml"
COSTS = ("time/", "cost/")  # what the keys of what a run took begin with
FORMATS = ("markdown", "latex", "csv", "html")  # in which a table is printed
SELECTED = "selected"  # in expected.yaml: whichever arm was selected, so no arm may be called so

# An arm's name stands in file names, in `best:STUDY:ARM` and, unquoted, in a Hydra override.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NOT_NAMES = {"true", "false", "null", "nan", "inf", SELECTED}
_SET_BY_THE_STUDY = {"study", "arm", "seed", "name", "evaluation"}


@dataclass(frozen=True)
class RunsOf:
    """The trained runs that a study of evaluation methods measures."""

    study: str
    arm: str


@dataclass(frozen=True)
class Arm:
    """One setting that is compared: Hydra overrides on top of the study's `base`."""

    overrides: list[str] = field(default_factory=list)
    seeds: list[int] | None = None  # default: the study's
    candidate: bool = True  # whether it may be selected; a reference row may not
    evaluate: MethodConfig | None = None  # in a study with runs_of: how those runs are measured
    runs_of: RunsOf | None = None  # of this arm; default: the study's


@dataclass(frozen=True)
class Selection:
    """What chooses an arm: the mean of a validation metric over its seeds."""

    key: str = field(
        default="val/auroc",
        metadata={"rule": Rule(lambda key: not key.startswith("test/"), "a metric of val: test never chooses")},
    )
    mode: str = field(default="max", metadata=one_of("max", "min"))


@dataclass(frozen=True)
class Column:
    """One quantity of the table, by the key under which a run records it."""

    key: str
    label: str | None = None  # default: the key
    format: str = field(
        default=".3f",
        metadata={
            "rule": Rule(lambda text: bool(re.fullmatch(r",?(\.\d+)?[feg%]", text)), "a format such as .3f or ,.0f")
        },
    )
    # seeds: mean ± sd; arm: one value that an arm's runs share, such as its parameters
    per: str = field(default="seeds", metadata=one_of("seeds", "arm"))
    scale: float = 1.0  # shown value = recorded value * scale
    # Adds a column each: over seeds (Student's t, three or more) or over the groups of the test set (bootstrap)
    interval: list[str] = field(default_factory=list)


def _default_columns() -> list[Column]:
    return [
        Column("test/auroc", "Test AUROC", interval=["seeds", "groups"]),
        Column("val/auroc", "Val AUROC"),
        Column("cost/parameters", "Params (M)", ".2f", per="arm", scale=1e-6),
        Column("cost/gmacs", "GMACs", ".3f", per="arm"),
        Column("cost/megabytes", "MB", ".1f", per="arm"),
        Column("time/train_seconds", "Train s", ".0f"),
    ]


@dataclass(frozen=True)
class TableSpec:
    """What the table shows and in which order."""

    columns: list[Column] = field(default_factory=_default_columns)
    sort: str | None = None  # a column's key, ascending, or -key, descending; default: the order of the file
    baseline: str | None = None  # the arm that every other is compared with
    # seeds: paired by seed. groups: over the groups of the test set, which takes systems of a single run, too
    test: str = "seeds"
    factorial: bool = False  # compare the levels of the grid's factors, and test how they act on each other, instead
    compared: str | None = None  # the metric of the comparisons; default: the first column's
    # What the arms are drawn from, such as "split": how much of the spread lies between them, how much between seeds
    components: str | None = None
    # Rows and columns of a second view of the grid: [row factor, column factor], the rest averaged
    pivot: list[str] = field(default_factory=list)

    @property
    def compared_key(self) -> str:
        """The metric of the comparisons."""
        return self.compared or self.columns[0].key


@dataclass(frozen=True)
class FigureSpec:
    """What the figures show."""

    key: str | None = None  # the interval plot's metric; default: the table's first column
    curve: str = "epoch/val_auroc"  # recorded once an epoch
    cost: str = "cost/gmacs"  # against which the compared metric is drawn; or cost/megabytes, time/...


@dataclass(frozen=True)
class Fit:
    """What makes an ablation of regularisers valid: the arm without them fits its training split."""

    arm: str
    key: str = "fit/auroc"
    at_least: float = 0.999


@dataclass(frozen=True)
class StudyFile:
    """The keys of `study.yaml`."""

    question: str
    seeds: list[int]
    data_note: str = ""  # printed wherever a number is
    base: list[str] = field(default_factory=list)
    runs_of: RunsOf | None = None  # see `figleaf.study.evaluated`
    # factor -> label -> overrides; every combination is an arm, its name the labels joined with "-"
    grid: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    select: Selection = field(default_factory=Selection)
    table: TableSpec = field(default_factory=TableSpec)
    figure: FigureSpec = field(default_factory=FigureSpec)
    fit: Fit | None = None
    search: SearchSection | None = None


@dataclass(frozen=True)
class Study:
    """A study file, read and checked: `arms` holds the grid's combinations first, then the arms named one by one."""

    name: str
    folder: Path
    question: str
    data_note: str
    base: tuple[str, ...]
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    select: Selection
    table: TableSpec
    figure: FigureSpec
    grid: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)  # factor -> label -> overrides
    fit: Fit | None = None
    search: SearchSection | None = None
    runs_of: RunsOf | None = None

    @property
    def results(self) -> Path:
        """The folder of what is generated: records, tables, figures."""
        return self.folder / "results"

    @property
    def cells(self) -> dict[str, tuple[str, ...]]:
        """The arms of the grid with their labels, one a factor."""
        return {"-".join(labels): labels for labels in itertools.product(*self.grid.values())} if self.grid else {}

    @property
    def evaluates(self) -> bool:
        """Whether it trains nothing and measures runs of other studies in all of its arms."""
        return self.runs_of is not None or all(arm.runs_of is not None for arm in self.arms.values())

    def source_of(self, arm: str) -> RunsOf | None:
        """The runs that an arm measures: its own choice, or the study's; None where it trains."""
        return self.arms[arm].runs_of or self.runs_of

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm: its own, or the study's."""
        own = self.arms[arm].seeds
        return self.seeds if own is None else tuple(own)


def study_exists(name: str, experiments: Path) -> bool:
    """Whether `experiments` holds a study of this name. Names that no study can have are answered, not looked up."""
    return bool(_NAME.fullmatch(name)) and (experiments / name / FILE_NAME).is_file()


def find_study(name: str, experiments: Path) -> Study:
    """Load `experiments/NAME/study.yaml`. Raises `FigleafError` that lists the studies there are."""
    if not (experiments / name / FILE_NAME).is_file():
        known = sorted(path.parent.name for path in experiments.glob(f"*/{FILE_NAME}"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise FigleafError(f"study {name}: no file {experiments / name / FILE_NAME}; {hint}")
    return load_study(experiments / name)


def load_study(folder: Path) -> Study:
    """Read and check `folder/study.yaml`; the study is called like its folder.

    Raises `FigleafError` that names the file, the key and the way out.
    """
    path = folder / FILE_NAME
    try:
        file = from_dict(_spelled_out(read_yaml(path)), StudyFile)
        _check_name(folder.name, "the study's folder")
        study = Study(
            name=folder.name,
            folder=folder,
            question=file.question.strip(),
            data_note=file.data_note.strip(),
            base=tuple(file.base),
            arms=_arms(file),
            seeds=tuple(file.seeds),
            select=file.select,
            table=file.table,
            figure=file.figure,
            grid=file.grid,
            fit=file.fit,
            search=file.search,
            runs_of=file.runs_of,
        )
        _check(study)
    except FigleafError as error:
        message = str(error)
        raise FigleafError(message if str(path) in message else f"{path}: {message}") from error
    return study


def _spelled_out(raw: dict[str, Any]) -> dict[str, Any]:
    """The file without its shorthands: `select: KEY`, `ARM: [overrides]`, a column that is only a key."""
    full = dict(raw)
    if isinstance(full.get("select"), str):
        full["select"] = {"key": full["select"]}
    if isinstance(full.get("arms"), dict):
        full["arms"] = {
            _text_key(name, "arms"): {"overrides": arm} if isinstance(arm, list) else arm or {}
            for name, arm in full["arms"].items()
        }
    if isinstance(full.get("grid"), dict):
        full["grid"] = {
            factor: {_text_key(label, f"grid.{factor}"): _as_list(overrides) for label, overrides in levels.items()}
            if isinstance(levels, dict)
            else levels
            for factor, levels in full["grid"].items()
        }
    if "search" in full:
        full["search"] = search_spelled_out(full["search"])
    if isinstance(full.get("table"), dict) and isinstance(full["table"].get("columns"), list):
        columns = [{"key": column} if isinstance(column, str) else column for column in full["table"]["columns"]]
        full["table"] = full["table"] | {"columns": columns}
    return full


def _text_key(key: Any, where: str) -> str:
    # YAML 1.1 reads off, no, yes and null as values: an arm called "off" would become "False".
    if not isinstance(key, str | int | float) or isinstance(key, bool):
        raise FigleafError(f"{where}: YAML reads a name as {key}; put it in quotes")
    return str(key)


def _as_list(overrides: Any) -> Any:
    return [overrides] if isinstance(overrides, str) else [] if overrides is None else overrides


def _arms(file: StudyFile) -> dict[str, Arm]:
    arms: dict[str, Arm] = {}
    if file.grid:
        for combination in itertools.product(*(levels.items() for levels in file.grid.values())):
            name = "-".join(label for label, _ in combination)
            if name in arms:
                raise FigleafError(f"grid: two combinations are called {name}; give the levels other labels")
            arms[name] = Arm([override for _, overrides in combination for override in overrides])
    for name, arm in file.arms.items():
        if name in arms:
            raise FigleafError(f"arms.{name}: the grid already gives an arm of that name")
        arms[name] = arm
    return arms


def _check(study: Study) -> None:
    if not study.arms:
        raise FigleafError("the study has no arms: name them under arms: or grid:")
    for where, overrides in [("base", list(study.base)), *((f"arms.{n}", a.overrides) for n, a in study.arms.items())]:
        for override in overrides:
            if override.partition("=")[0].lstrip("+~") in _SET_BY_THE_STUDY:
                raise FigleafError(f"{where}: {override}: the study sets {', '.join(sorted(_SET_BY_THE_STUDY))} itself")
    for name, arm in study.arms.items():
        _check_name(name, "arms")
        where = "seeds" if arm.seeds is None else f"arms.{name}.seeds"
        seeds = study.seeds_of(name)
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise FigleafError(f"{where}={list(seeds)}: expected at least one whole number from 0, none twice")
    for i, column in enumerate(study.table.columns):
        for kind in column.interval:
            if kind not in {"seeds", "groups"}:
                raise FigleafError(f"table.columns[{i}].interval={kind}: expected seeds, groups or both")
    keys = [column.key for column in study.table.columns]
    if not keys:
        raise FigleafError("table.columns: expected at least one column")
    if study.table.sort is not None and study.table.sort.removeprefix("-") not in keys:
        raise FigleafError(f"table.sort={study.table.sort}: expected the key of a column, one of {', '.join(keys)}")

    _check_comparisons(study)
    if study.search is not None:
        if any(study.source_of(arm) for arm in study.arms):
            raise FigleafError("search: a study with runs_of trains nothing; search in the study that it names")
        study.search.check(list(study.arms), study.select.key, study.select.mode)


def _check_comparisons(study: Study) -> None:
    table = study.table
    for where, arm in (("table.baseline", table.baseline), ("fit.arm", study.fit and study.fit.arm)):
        if arm is not None and arm not in study.arms:
            raise FigleafError(f"{where}={arm}: expected one of {', '.join(study.arms)}")
    if table.test not in ("seeds", "groups"):
        raise FigleafError(f"table.test={table.test}: expected seeds or groups")
    if table.test == "groups" and table.baseline is None:
        raise FigleafError("table.test=groups: name a table.baseline that the other arms are compared with")
    if table.test == "groups" and table.compared_key.startswith(COSTS):
        raise FigleafError("table.test=groups: no resample of the test set changes what a run took; leave it at seeds")
    if table.factorial:
        if table.baseline is not None:
            raise FigleafError("table: give a baseline or factorial, not both: they are two families of tests")
        if not study.grid:
            raise FigleafError("table.factorial=true: expected a grid of factors")
        for factor, levels in study.grid.items():
            if len(levels) != 2:
                raise FigleafError(
                    f"table.factorial=true: effects are of two levels, grid.{factor} has {len(levels)}; "
                    "name a table.baseline instead"
                )
    if table.pivot and (len(table.pivot) != 2 or not set(table.pivot) <= set(study.grid)):
        raise FigleafError(
            f"table.pivot={table.pivot}: expected two factors of grid: {', '.join(study.grid) or 'none'}"
        )


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name) or name.lower() in _NOT_NAMES:
        raise FigleafError(
            f"{where}: {name} cannot be a name: expected a letter, then letters, digits, '.', '_' or '-', "
            f"and none of {', '.join(sorted(_NOT_NAMES))}"
        )
