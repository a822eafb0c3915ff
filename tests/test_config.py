"""The configuration is typed, refuses what it does not know, and identifies a run."""

import re
from dataclasses import asdict, make_dataclass, replace
from pathlib import Path

import pytest

from figleaf.config import (
    ROOTS,
    AugmentConfig,
    ModelConfig,
    SkinConfig,
    TrainConfig,
    compose,
    conf_dir,
    expand_grid,
    fingerprint,
    from_dict,
    to_dict,
    weights_sha256,
)
from figleaf.errors import FigleafError


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.widht=1", "did you mean model.width"),
        ("model.width=9", "model.width=9.0: expected 0 < x <= 4"),
        ("model=vgg17", "no such preset; did you mean vgg1"),
        ("data=x", "no such preset; there are: digits, "),
        ("data.calib_fraction=1.2", "0 <= x < 1"),
        ("trainer.epochs=2.5", "expected an integer"),
        ("augment.reflect=1", "true or false"),
        ("data.classes=[a,1]", "list of names"),
        ("nonsense", "expected key=value"),
        ("optimizer.name=lion", "one of sgd, adamw"),
        ("model=[]", "model"),
        ("seed=[", "seed"),
        ("seed=4294967296", "seed=4294967296: expected 0 to 4294967295"),
        ("optimizer.lr=inf", "optimizer.lr=inf: expected a finite number"),
        ("data.manifest=m.csv", "not read with data.source=scenes; pass data=manifest, too"),
        ("data.unsafe=[]", "not read with data.source=scenes"),
    ],
)
def test_wrong_override_is_named_with_the_way_out(override: str, told: str) -> None:
    with pytest.raises(FigleafError) as caught:
        compose("train", [override])
    assert told in str(caught.value)
    assert override.split("=")[0].split(".")[0] in str(caught.value)


def test_config_survives_plain_containers() -> None:
    config = compose("train", ["data=manifest", "model=vgg19", "augment=pca", "data.unsafe=[b]"])
    assert from_dict(to_dict(config), TrainConfig) == config


def test_a_skin_system_takes_the_place_of_a_network() -> None:
    config = compose("train", ["model=skin_fleck", "model.options.mode=exact", "model.options.area=0.25"])
    assert config.model == SkinConfig("fleck", 160, {"mode": "exact", "area": 0.25})
    assert from_dict(to_dict(config), TrainConfig) == config
    assert config.weights == "none"
    other = compose("train", ["model=skin_fleck", "model.options.mode=exact"])
    assert fingerprint(config, "data") != fingerprint(other, "data")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=skin_fleck", "model.head=gap"], "model.head: unknown key"),
        (["model=vgg16", "model.options.mode=fast"], "model.options: unknown key"),
        (["model=skin_fleck", "model.options.mode=[1]"], "model.options.mode"),
        (["model=skin_fleck", "model.input_size=1"], "model.input_size=1: expected at least 8"),
    ],
)
def test_what_is_no_key_of_the_chosen_model_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(FigleafError, match=re.escape(told)):
        compose("train", overrides)


def test_key_without_a_value_in_any_preset_can_be_set() -> None:
    assert compose("train", ["trainer.max_device_batch=8"]).trainer.max_device_batch == 8


@pytest.mark.parametrize("run", ["12345678", "1234e567", "0012", "1_0", "deadbeef"])
def test_run_id_that_looks_like_a_number_stays_a_text(run: str) -> None:
    assert compose("evaluate", [f"run={run}"]).run == run


def test_missing_run_says_how_to_name_one() -> None:
    with pytest.raises(FigleafError, match="run=latest"):
        compose("evaluate")


def test_grid_is_every_combination() -> None:
    grid = expand_grid(["seed=1,2", "model.dropout=0,0.5", "data.unsafe=[a,b]"])
    assert len(grid) == 4
    assert grid[0] == ["seed=1", "model.dropout=0", "data.unsafe=[a,b]"]


def test_fingerprint_ignores_bookkeeping_and_nothing_else(tmp_path: Path) -> None:
    config: TrainConfig = compose("train")
    base = fingerprint(config, "data")
    same = [
        replace(config, name="x", study="y", arm="z", resume="never"),
        replace(config, trainer=replace(config.trainer, workers=3, threads=2)),
        replace(config, data=replace(config.data, manifest="elsewhere.csv")),
    ]
    other = [
        replace(config, seed=2),
        replace(config, optimizer=replace(config.optimizer, lr=0.1)),
        replace(config, trainer=replace(config.trainer, devices=2)),
        replace(config, data=replace(config.data, balance="sampler")),
    ]
    assert {fingerprint(c, "data") for c in same} == {base}
    assert len({base, fingerprint(config, "other data"), *(fingerprint(c, "data") for c in other)}) == len(other) + 2


def test_fingerprint_survives_a_new_key_of_the_schema() -> None:
    config = compose("train")
    wider = make_dataclass("Wider", [("new", int, 0)], bases=(AugmentConfig,), frozen=True)
    at_default = replace(config, augment=wider(**asdict(config.augment)))
    changed = replace(config, augment=wider(**asdict(config.augment), new=1))
    assert fingerprint(at_default, "data") == fingerprint(config, "data") != fingerprint(changed, "data")


def test_fingerprint_of_a_configuration_whose_weights_file_is_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "w.npz"
    file.write_bytes(b"1")
    config = replace(compose("train"), model=ModelConfig(weights=f"shallower:{file}"))
    here, digest = fingerprint(config, "data"), weights_sha256(config)
    file.unlink()
    assert weights_sha256(config) == ""
    assert fingerprint(config, "data", digest) == here != fingerprint(config, "data")


def test_fingerprint_follows_the_content_of_a_weights_file(tmp_path: Path) -> None:
    def with_weights(folder: str, content: bytes) -> str:
        file = tmp_path / folder / "w.npz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        config = compose("train")
        return fingerprint(replace(config, model=replace(config.model, weights=str(file))), "data")

    assert with_weights("a", b"1") == with_weights("b", b"1") != with_weights("a", b"2")


def presets() -> list[tuple[str, str, str]]:
    roots = {"train": ("data", "augment", "model", "optimizer", "trainer", "tracking"), "launch": ("launcher",)}
    return [
        (root, group, file.stem)
        for root, groups in roots.items()
        for group in groups
        for file in sorted((conf_dir() / group).glob("*.yaml"))
    ]


@pytest.mark.parametrize(("root", "group", "name"), presets())
def test_every_preset_composes_and_says_what_it_is(root: str, group: str, name: str) -> None:
    compose(root, [f"{group}={name}"])
    assert (conf_dir() / group / f"{name}.yaml").read_text().startswith("# "), "a preset's first line says what it is"


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes(root: str) -> None:
    required = ["run=x"] if "run" in to_dict_keys(root) else []
    compose(root, required)


def to_dict_keys(root: str) -> set[str]:
    return set(ROOTS[root].__dataclass_fields__)  # type: ignore[attr-defined]
