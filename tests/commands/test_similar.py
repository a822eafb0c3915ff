"""`figleaf similar`: from a manifest to answers; any file as a question; what is refused, and in what words."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bad_images import write_bad_corpus
from figleaf.cli import main
from figleaf.errors import printable


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A manifest of pictures of two colours in two slices, each group of two; a third of them in test."""
    rows = []
    for number in range(24):
        rgb_u8 = np.random.default_rng(number // 2).integers(0, 60, (20, 20, 3), dtype=np.uint8)
        rgb_u8[..., number // 2 % 2] += 180
        name = "<td><b>\n.png" if number == 0 else f"{number:02}.png"
        Image.fromarray(rgb_u8).save(tmp_path / name)
        kind = "red" if number // 2 % 2 == 0 else "green"
        rows.append([name, kind, "test" if number >= 16 else "train", f"g{number // 2}", f"{kind}/x"])
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group", "slice"])
    table.to_csv(tmp_path / "m.csv", index=False)
    return f"data.manifest={tmp_path / 'm.csv'}"


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["similar", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def built(capsys: pytest.CaptureFixture[str], data: str, folder: Path, *more: str) -> dict[str, Any]:
    code, out, _ = ask(capsys, "--build", folder, data, "data.unsafe=[]", *more)
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.parametrize("features", ["histogram", "thumbnail", "dct", "regions"])
def test_from_a_manifest_to_answers(
    features: str, data: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = built(capsys, data, tmp_path / "index", f"features={features}", "words=4", "split=train")
    assert (told["pictures"], told["unreadable"]) == (16, 0)
    code, out, err = ask(capsys, tmp_path / "16.png", "--in", tmp_path / "index", "--count", 5)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["rank"] for line in lines] == [1, 2, 3, 4, 5]
    assert {line["label"] for line in lines} == {"red"}
    assert not any(line["same_file"] for line in lines)
    (picture,) = (home / "similar").iterdir()
    assert str(picture) in err
    assert Image.open(picture).width > 800


def test_picture_of_the_collection_finds_itself_and_says_so(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram")
    _, out, _ = ask(capsys, tmp_path / "03.png", "--in", tmp_path / "index", "--count", 2)
    first, second = map(json.loads, out.splitlines())
    assert (first["distance"], first["group"], second["group"]) == (0, "g1", "g1")
    assert sum(line["same_file"] for line in (first, second)) >= 1


def test_answers_are_blurred_unless_shown(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram")
    detail = {}
    for name, option in (("hidden", []), ("shown", ["--show"])):
        file = tmp_path / f"{name}.png"
        assert ask(capsys, tmp_path / "16.png", "--in", tmp_path / "index", "--picture", file, *option)[0] == 0
        tile = np.asarray(Image.open(file)).astype(int)[20:160, 190:330]
        detail[name] = np.abs(np.diff(tile, axis=1)).mean()
    assert detail["hidden"] < detail["shown"] / 3


def test_any_file_may_be_asked_about_and_a_bad_one_is_one_clear_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram")
    for case in write_bad_corpus(tmp_path / "corpus"):
        code, out, err = ask(
            capsys, case.path, "--in", tmp_path / "index", "--count", 1, "--picture", tmp_path / "p.png"
        )
        if case.decodes:
            assert code == 0, case.kind
            assert len(out.splitlines()) == 1
        else:
            assert code == 2, case.kind
            assert err.startswith(f"error: {printable(str(case.path))}: ")
            assert len(err.splitlines()) == 1
            assert not out
            assert case.reason in err


def test_hostile_name_in_the_collection_stays_one_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram")
    code, out, err = ask(capsys, tmp_path / "<td><b>\n.png", "--in", tmp_path / "index", "--count", 30)
    assert code == 0
    assert len(out.splitlines()) == 24
    assert "<td><b>\n.png" in {json.loads(line)["path"] for line in out.splitlines()}
    assert len(err.splitlines()) == 1


def test_picture_that_has_gone_since_leaves_an_empty_tile(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram", "split=train")
    for number in range(1, 16):
        (tmp_path / f"{number:02}.png").unlink()
    assert ask(capsys, tmp_path / "16.png", "--in", tmp_path / "index")[0] == 0


def test_indexes_are_measured_and_compared(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for features in ("histogram", "dct"):
        built(capsys, data, tmp_path / features, f"features={features}", "split=train")
    both = ["--evaluate", tmp_path / "dct", "--evaluate", tmp_path / "histogram"]
    code, out, err = ask(capsys, *both, data, "data.unsafe=[]", "split=test", "intervals=50")
    assert code == 0
    assert "mean average precision" in err
    report = json.loads(out)
    by_color = report["indexes"][str(tmp_path / "histogram")]
    assert by_color["same_label"]["all"]["map"]["value"] == 1
    assert by_color["same_slice"]["red/x"]["map"]["queries"] == 4
    assert by_color["recall_of_approximate"] == {"at": 10, "mean": 1}
    difference = report["against_first"][str(tmp_path / "histogram")]["same_label"]["all"]["map"]
    assert difference["value"] == pytest.approx(
        1 - report["indexes"][str(tmp_path / "dct")]["same_label"]["all"]["map"]["value"]
    )
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_leaving_one_out_does_not_count_the_querys_own_group(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pictures of a group are twins here, so that each would have its twin first."""
    built(capsys, data, tmp_path / "index", "features=histogram")
    code, out, _ = ask(capsys, "--evaluate", tmp_path / "index", data, "data.unsafe=[]", "split=all", "intervals=20")
    assert code == 0
    (found,) = json.loads(out)["indexes"].values()
    assert found["same_label"]["all"]["chance"]["value"] == pytest.approx(10 / 22)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x.png"], "expected one of: IMAGE --in INDEX"),
        (["--build", "a", "--in", "b"], "expected one of"),
        (["x.png", "--in", "gone"], "gone: no such folder"),
        (["x.png", "--in", "gone", "--count", "0"], "--count 0"),
        (["--build", "new", "data=manifest", "data.manifest=gone.csv"], "gone.csv: no such file"),
        (["--build", "new", "data=digits", "features=smell"], "features=smell"),
        (["--build", "new", "data=digits", "features=vgg"], "pass run=RUN or weights=FILE"),
        (["--build", "new", "data=digits", "features=vgg", "weights=gone.npz"], "gone.npz"),
        (["--build", "new", "data=digits", "run=latest"], "run=latest: read with features=vgg only"),
        (["--build", "mine", "data=digits"], "mine: holds something else"),
        (["--build", "new", "data=digits", "split=tset"], "split=tset"),
        (["--build", "new", "wrods=3"], "did you mean words"),
        (["--evaluate", "gone", "data=digits"], "gone: no such folder"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("x.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    code, out, err = ask(capsys, *arguments)
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1
    assert not out
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("arguments", [["--in", "i"], ["a.png", "b.png", "--in", "i"], ["--build", "i", "a.png"]])
def test_arguments_that_do_not_belong_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["similar", *arguments])
    assert ended.value.code == 2
    assert "IMAGE" in capsys.readouterr().err


def test_search_loads_neither_torch_nor_hydra_and_builds_nothing(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(capsys, data, tmp_path / "index", "features=histogram")
    code = (
        "import sys; from figleaf.cli import main\n"
        f"code = main(['similar', {str(tmp_path / '16.png')!r}, '--in', {str(tmp_path / 'index')!r}])\n"
        "print(code, sorted({'torch', 'mlflow', 'hydra', 'skimage', 'faiss', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines()[-1] == "0 []"
