"""The rows of shards, a part each: whole or not there, used again when they are of the same input and model."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figleaf.data.manifest import Manifest
from figleaf.data.sharding import write_shards
from figleaf.errors import FigleafError
from figleaf.serve.parts import Parts, part_of, units_of

CLASSES = ("safe", "nsfw")
IDENTITY = {"model": "x", "threshold": 0.5}


def rows_of(path: str, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        chances = {"safe": 1 - number / 10, "nsfw": number / 10}
        row = {"score": number / 10, "flagged": number > 4, "label": "safe", "probabilities": chances, "error": None}
        yield {"path": f"{path}::{number}.png", **row}
    yield {
        **{"path": f"{path}::\udcff.png", "score": None, "flagged": None, "label": None},
        **{"probabilities": None, "error": "not an image"},
    }


@pytest.fixture
def archives(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{name}.tar" for name in "abc"]
    for path in paths:
        path.write_bytes(b"some archive")
    return [str(path) for path in paths]


def parts_of(archives: list[str], out: Path, identity: dict[str, Any] = IDENTITY) -> Parts:
    return Parts(out, units_of(archives), CLASSES, identity, actions=False)


def write(parts: Parts, number: int, count: int = 3) -> None:
    rows = rows_of(parts.units[number].path, count)
    parts.write(number, part_of(rows, CLASSES, False, parts.told(number)))


def test_the_file_holds_the_parts_in_the_order_of_the_inputs(archives: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with parts_of(archives, out) as parts:
        for number in (2, 0, 1):
            write(parts, number, count=number)
        write(parts, 0, count=0)  # scored twice
        parts.finish()
    rows = pq.read_table(out).to_pylist()
    expected = [f"{path}::{name}" for n, path in enumerate(archives) for name in [*(f"{k}.png" for k in range(n)), ""]]
    assert [row["path"].replace("\\xff.png", "") for row in rows] == expected
    assert rows[1]["probabilities"] == [1.0, 0.0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".tar") == [
        "scores.parquet", "scores.parquet.state",
    ]  # fmt: skip


def test_what_is_there_is_not_missing_after_a_death(archives: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with suppress(KeyboardInterrupt), parts_of(archives, out) as parts:
        write(parts, 1)
        (parts.folder / "part-00000.parquet").write_bytes(b"PAR1 no Parquet")
        raise KeyboardInterrupt
    assert not out.exists()
    with parts_of(archives, out) as parts:
        assert parts.missing() == [0, 2]
        Path(archives[1]).write_bytes(b"another archive")
    with parts_of(archives, out) as parts:
        assert parts.missing() == [0, 1, 2]
    with parts_of(archives, out, {**IDENTITY, "threshold": 0.6}) as parts:
        assert parts.missing() == [0, 1, 2]


def test_a_finished_file_is_finished_for_its_own_inputs_alone(archives: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with parts_of(archives, out) as parts:
        for number in range(3):
            write(parts, number)
        parts.finish()
    before = out.read_bytes()
    with parts_of(archives, out) as parts:
        assert parts.is_finished
        assert len(list(parts.rows())) == 12
    for other in (archives[:2], [*archives[1:], archives[0]]):
        with pytest.raises(FigleafError, match="is there, with other rows"):
            parts_of(other, out).__enter__()
    with pytest.raises(FigleafError, match="is there, with other rows"):
        parts_of(archives, out, {**IDENTITY, "model": "y"}).__enter__()
    assert out.read_bytes() == before


def test_one_process_writes_the_parts(archives: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with parts_of(archives, out), pytest.raises(FigleafError, match="another figleaf predict is writing it"):
        parts_of(archives, out).__enter__()


def test_an_input_is_scored_once_though_it_is_named_twice(archives: list[str]) -> None:
    assert [unit.path for unit in units_of([*archives, archives[0]])] == archives


def test_a_folder_of_shards_is_its_shards_also_those_that_are_gone(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": "nsfw", "split": "test"})
    shards = tmp_path / "shards"
    write_shards(Manifest.from_table(table, root=tmp_path, name="x"), shards, samples_max=1)
    (shards / "shard-00001.tar").unlink()
    first, second = units_of([str(shards)])
    assert (first.path, first.n_bytes) == (str(shards / "shard-00000.tar"), 10240)
    assert (second.path, second.n_bytes) == (str(shards / "shard-00001.tar"), 0)


def test_what_one_worker_cannot_take_is_refused(archives: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    for path in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(FigleafError, match="--ray scores shards and archives"):
            units_of([str(path)])
    with pytest.raises(FigleafError, match=r"expected a name that ends in \.parquet"):
        parts_of(archives, tmp_path / "scores.csv")
    (tmp_path / "x.parquet").mkdir()
    with pytest.raises(FigleafError, match="a folder; name a file"):
        parts_of(archives, tmp_path / "x.parquet")


def test_a_part_says_what_it_is_of(archives: list[str], tmp_path: Path) -> None:
    parts = parts_of(archives, tmp_path / "scores.parquet")
    said = json.loads(parts.told(0))
    assert said == [IDENTITY, archives[0], 12, Path(archives[0]).stat().st_mtime_ns]
    parts.units[0] = replace(parts.units[0], n_bytes=13)
    assert json.loads(parts.told(0)) != said
