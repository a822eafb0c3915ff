from pathlib import Path

import pytest

from figleaf.errors import FigleafError
from figleaf.study.spec import Study, find_study, load_study

SMALLEST = """
question: Does dropout help?
seeds: [0, 1]
arms:
  plain: []
"""


def study(folder: Path, text: str) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return load_study(folder)


def test_the_smallest_study_has_a_table_and_a_selection(tmp_path: Path) -> None:
    found = study(tmp_path / "smallest", SMALLEST)
    assert found.name == "smallest"
    assert (found.select.key, found.select.mode) == ("val/auroc", "max")
    assert found.table.columns[0].key == "test/auroc"
    assert found.seeds_of("plain") == (0, 1)


def test_a_grid_gives_every_combination_and_arms_stand_beside_it(tmp_path: Path) -> None:
    found = study(
        tmp_path / "grid",
        """
question: q
seeds: [0, 1]
base: [data=digits]
grid:
  depth: {vgg16: model.depth=16, vgg19: [model.depth=19]}
  pca: {nopca: , eig01: [augment.pca_color=eig01, augment.pca_strength=0.2]}
arms:
  pretrained: {overrides: [model.weights=w.npz], seeds: [7], candidate: false}
""",
    )
    assert list(found.arms) == ["vgg16-nopca", "vgg16-eig01", "vgg19-nopca", "vgg19-eig01", "pretrained"]
    assert found.arms["vgg19-eig01"].overrides == [
        "model.depth=19",
        "augment.pca_color=eig01",
        "augment.pca_strength=0.2",
    ]
    assert found.seeds_of("pretrained") == (7,)
    assert not found.arms["pretrained"].candidate


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SMALLEST + "tabel: {}", "did you mean table"),
        (SMALLEST + "table: {columns: [{key: a, formt: .2f}]}", "did you mean table.columns[0].format"),
        (SMALLEST + "table: {columns: [{key: a, format: 5}]}", "table.columns[0].format=5"),
        (SMALLEST + "table: {columns: [{key: a, format: s}]}", "a format such as .3f"),
        (SMALLEST + "table: {columns: [{key: a, interval: [years]}]}", "expected seeds, groups or both"),
        (SMALLEST + "table: {columns: [a], sort: b}", "table.sort=b"),
        (SMALLEST + "table: {columns: []}", "at least one column"),
        (SMALLEST + "select: test/auroc", "test never chooses"),
        (SMALLEST + "select: {key: val/nll, mode: least}", "one of max, min"),
        (SMALLEST + "seeds: [3]", "line 6: the key seeds is given twice"),
        (SMALLEST + "base: data=digits", "base=data=digits: expected a list"),
        (SMALLEST + "base: [seed=4]", "the study sets arm, evaluation, name, seed, study itself"),
        (SMALLEST + "base: [dropout: 0.5]", "base="),
        (SMALLEST + "  off: []", "put it in quotes"),
        (SMALLEST + "  a b: []", "a b cannot be a name"),
        (SMALLEST + "  selected: []", "selected cannot be a name"),
        (SMALLEST + "  '3': []", "3 cannot be a name"),
        (SMALLEST + "  other: {overides: []}", "did you mean arms.other.overrides"),
        (SMALLEST + "  other: {seeds: [1, 1]}", "arms.other.seeds=[1, 1]"),
        (SMALLEST + "grid: {x: {plain: []}}", "the grid already gives an arm of that name"),
        ("question: q\nseeds: [0]", "no arms"),
        ("question: q\nseeds: []\narms: {a: []}", "seeds=[]"),
        ("question: q\nseeds: [-1]\narms: {a: []}", "seeds=[-1]"),
        ("seeds: [0]\narms: {a: []}", "no value for question"),
        ("question: q\nseeds: [0, one]\narms: {a: []}", "seeds[1]=one: expected an integer"),
        ("question: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("question: [", "study.yaml"),
        ("- a", "expected keys with values, found list"),
        ("", "expected keys with values, found NoneType"),
    ],
)
def test_a_mistake_is_named_with_its_file_its_key_and_the_way_out(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(FigleafError) as error:
        study(tmp_path / "wrong", text)
    assert named in str(error.value)
    assert "wrong/study.yaml" in str(error.value)


def test_an_unknown_study_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    study(tmp_path / "first_light", SMALLEST)
    assert find_study("first_light", tmp_path).name == "first_light"
    with pytest.raises(FigleafError, match="did you mean first_light"):
        find_study("fist_light", tmp_path)
    with pytest.raises(FigleafError, match="there are: first_light"):
        find_study("zzz", tmp_path)


def test_a_folder_whose_name_hydra_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="cannot be a name"):
        study(tmp_path / "1e3", SMALLEST)
