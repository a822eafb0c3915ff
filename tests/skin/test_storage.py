import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression

from figleaf.errors import FigleafError
from figleaf.skin.scorer import BINARY, SkinScorer, answers
from figleaf.skin.storage import METADATA_KEY, is_system, load_system, save_system
from figleaf.skin.systems import SYSTEMS, build, options_of

RNG = np.random.default_rng(0)
SKIN, SKY = np.array([205, 150, 120]), np.array([90, 140, 210])


def pictures(count: int = 24, side: int = 24) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Pictures with a little or a lot of a skin colour before blue, their labels and masks."""
    made, masks = [], []
    labels = np.arange(count) % 2
    for label in labels:
        rows = side - 3 if label else 3
        mask = np.zeros((side, side), bool)
        mask[:rows] = True
        noise = RNG.integers(-8, 9, (side, side, 3))
        made.append((np.where(mask[..., None], SKIN, SKY) + noise).astype(np.uint8))
        masks.append(mask)
    return np.stack(made), labels, masks


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_tells_much_skin_from_little_and_answers_alike_after_a_file(name: str, tmp_path: Path) -> None:
    seen, labels, masks = pictures()
    system = build(name, {}, random_state=0).fit(seen, labels, masks)
    probabilities = system.predict_proba(seen)
    assert probabilities.shape == (len(seen), 2)
    assert np.isfinite(probabilities).all()
    path = save_system(system, tmp_path / "system.safetensors", {"classes": ["a", "b"], "unsafe": ["b"]})
    loaded, facts = load_system(path)
    assert loaded.predict_proba(seen) == pytest.approx(probabilities, abs=1e-9)  # an array may be laid out otherwise
    assert facts == {"classes": ["a", "b"], "unsafe": ["b"]}
    assert is_system(path)
    with safe_open(path, framework="numpy") as file:
        assert b"sklearn.pipeline" not in json.dumps(file.metadata()).encode()


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 50), (50, 1), (3, 400), (40, 40)], ids=["one pixel", "row", "column", "strip", "square"]
)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_degenerate_pictures_have_a_defined_score(name: str, shape: tuple[int, int], value: int) -> None:
    seen, labels, masks = pictures(12)
    system = build(name, {}, random_state=0).fit(seen, labels, masks)
    probability = system.predict_proba([np.full((*shape, 3), value, np.uint8)])
    assert np.isfinite(probability).all()
    assert probability.sum() == pytest.approx(1)


def rewritten(path: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """The file with its description changed by `change`."""
    with safe_open(path, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()[METADATA_KEY])
    change(about, tensors)
    safetensors.numpy.save_file(tensors, path, metadata={METADATA_KEY: json.dumps(about)})
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    seen, labels, masks = pictures()
    system = build("jones_rehg_features", {}, random_state=0).fit(seen, labels, masks)
    return save_system(system, tmp_path / "system.safetensors", {})


class Foreign(LogisticRegression):
    """A type that no system has; a pickle of it could run anything."""


def test_a_file_that_asks_for_types_of_elsewhere_is_refused(stored: Path) -> None:
    import skops.io

    seen, labels, _ = pictures()
    other = np.frombuffer(skops.io.dumps(Foreign().fit(seen.reshape(len(seen), -1), labels)), np.uint8)

    def change(about, tensors):  # type: ignore[no-untyped-def]
        (place,) = [key for key in tensors if key.endswith("classifier_")]
        tensors[place] = other

    with pytest.raises(FigleafError, match="asks for types that no skin system has"):
        load_system(rewritten(stored, change))


def test_a_file_that_names_a_class_of_elsewhere_is_refused(stored: Path) -> None:
    with pytest.raises(FigleafError, match=r"not a readable skin system .*os\.system"):
        load_system(rewritten(stored, lambda about, tensors: about["system"].update({"class": "os.system"})))


def test_a_damaged_a_missing_and_another_file_are_named(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="no such file"):
        load_system(tmp_path / "nowhere.safetensors")
    stored.write_bytes(stored.read_bytes()[:-10])
    with pytest.raises(FigleafError, match="not a readable skin system"):
        load_system(stored)
    network = tmp_path / "network.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros(3)}, network)
    assert not is_system(network)


def test_an_attribute_that_has_no_place_in_a_file_is_a_fault_of_the_system(tmp_path: Path) -> None:
    system = build("kovac", {}, random_state=0)
    system.surprise_ = object()
    with pytest.raises(TypeError, match="surprise_ is a object, which has no place in a file"):
        save_system(system, tmp_path / "system.safetensors", {})


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("flek", {}, "model.system=flek: expected one of fleck, kovac"),
        ("kovac", {"are": 0.3}, "model.options.are=0.3: kovac has the options light, area"),
        ("kovac", {"area": "much"}, "model.options.area=much: expected a number, such as 0.3"),
        ("fleck", {"texture": 1}, "model.options.texture=1: expected true or false"),
        ("kovac", {"area": True}, "model.options.area=True: expected a number"),
        ("apapid", {"rule": "lab"}, "rule=lab: expected one of fleck, kovac"),
    ],
)
def test_a_wrong_name_option_or_value_is_told_with_the_way_out(name: str, options: dict, told: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(FigleafError, match=told):
        build(name, options, random_state=0)


def test_options_are_the_parameters_with_their_defaults() -> None:
    assert options_of("kovac") == {"light": "daylight", "area": 0.3}
    assert all("random_state" not in options_of(name) for name in SYSTEMS)


def test_a_scorer_answers_in_the_order_of_the_classes(tmp_path: Path) -> None:
    seen, labels, masks = pictures()
    system = build("kovac", {}, random_state=0).fit(seen, labels, masks)
    first = SkinScorer(system, ("much", "little"), ("much",), 24).logits(seen)
    second = SkinScorer(system, ("little", "much"), ("much",), 24).logits(seen)
    assert (first == second[:, ::-1]).all()
    assert (second.argmax(axis=1) == labels).all()
    assert answers(("a", "b", "c"), ("b", "c")) == (BINARY, ("unsafe",))
    assert answers(("a", "b"), ("a",)) == (("a", "b"), ("a",))


def test_an_area_at_the_threshold_is_unsafe_at_a_half() -> None:
    picture = np.empty((10, 10, 3), np.uint8)
    picture[:], picture[:3] = SKY, SKIN
    system = build("kovac", {"area": 0.3}, random_state=0).fit([picture], [1])
    assert system.predict_proba([picture])[0, 1] == 0.5
    picture[2, 9] = SKY
    assert system.predict_proba([picture])[0, 1] < 0.5
