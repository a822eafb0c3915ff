"""Rows as CSV and Parquet: what is read again is what was written; what somebody changed is refused and stays."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figleaf.errors import FigleafError
from figleaf.serve.items import Item
from figleaf.serve.predict import Answer
from figleaf.serve.rows import RowFile
from figleaf.serve.tables import name_as_text, name_of_text

CLASSES = ("safe", "nsfw")
ANSWERS = [
    Answer(
        "a.png", None, "safe", 0.12345678901234566, False, {"safe": 0.8765432109876543, "nsfw": 0.12345678901234566}
    ),
    Answer('odd, "quoted"\n.png', None, "nsfw", 1e-05, True, {"safe": 0.99999, "nsfw": 1e-05}),
    Answer("b.png", "not an image in a known format"),
]

# Bytes of names, many of which look like escapes.
RAW = st.lists(st.sampled_from([b"\\", b"x", b"f", b"8", b"\xff", b"\x8f", b"\xc3\xa9", b"a", b"\n"]), max_size=8)


@given(RAW, RAW)
def test_no_two_names_share_a_text(first: list[bytes], second: list[bytes]) -> None:
    names = [os.fsdecode(b"".join(raw)) for raw in (first, second)]
    texts = [name_as_text(name) for name in names]
    assert [name_of_text(text) for text in texts] == names
    assert (texts[0] == texts[1]) == (names[0] == names[1])
    "".join(texts).encode("utf-8")  # or raise


@pytest.mark.parametrize("name", ["a.png", r"windows\x\photo.png", "tab\t.png", "é.png", r"c:\xmas.png"])
def test_a_name_that_is_text_stays_as_it_is(name: str) -> None:
    assert name_as_text(name) == name


def written(out: Path, answers: list[Answer] = ANSWERS, classes: tuple[str, ...] = CLASSES) -> Path:
    with RowFile(out, classes, {"model": "m"}) as file:
        for answer in answers:
            file.write(answer)
        file.finish()
    return out


def rows_again(out: Path) -> list[dict[str, Any]]:
    with RowFile(out, CLASSES, {"model": "m"}) as file:
        return list(file.rows())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    odd = [Answer(os.fsdecode(b"\xff.png"), "gone"), Answer(r"\xff.png", "gone")]
    out = written(tmp_path / f"rows{suffix}", [*ANSWERS, *odd])
    assert rows_again(out) == [answer.row for answer in (*ANSWERS, *odd)]


def upper(text: str) -> str:
    return text.replace("true", "TRUE").replace("false", "FALSE")


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a mark in front": lambda raw: b"\xef\xbb\xbf" + raw,
    "semicolons": lambda raw: raw.replace(b",", b";"),
    "tabs": lambda raw: raw.replace(b",", b"\t"),
    "booleans in capitals": lambda raw: upper(raw.decode()).encode(),
    "a number rounded off": lambda raw: raw.replace(b"0.12345678901234566", b"0.1235000"),
    "scientific numbers": lambda raw: raw.replace(b"1e-05", b"1.00E-05"),
    "decimal commas": lambda raw: raw.replace(b"0.99999", b'"0,99999"'),
    "columns in another order": lambda raw: raw.replace(b"score,flagged", b"flagged,score", 1),
    "a column more": lambda raw: b"\r\n".join(
        line + b",x" for line in raw.replace(b'"\n', b'" ').split(b"\r\n") if line
    ),
    "a row cut short": lambda raw: raw.replace(b",not an image in a known format", b""),
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "Latin-1": lambda raw: raw.replace(b"a.png", b"\xe9.png"),
    "an open quotation": lambda raw: raw + b'"half',
    "nothing left": lambda raw: b"",
    "zeros": lambda raw: b"\0" * 100,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_csv_that_a_spreadsheet_has_saved_is_refused_and_stays(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    out = written(tmp_path / "rows.csv")
    changed = change(out.read_bytes())
    assert changed != out.read_bytes(), "the change changes something"
    out.write_bytes(changed)
    state = (tmp_path / "rows.csv.state").read_bytes()
    with pytest.raises(FigleafError, match=r"rows\.csv: .*nothing was written"):
        rows_again(out)
    assert out.read_bytes() == changed
    assert (tmp_path / "rows.csv.state").read_bytes() == state
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rows.csv", "rows.csv.state"]


def test_rows_may_be_taken_out_sorted_and_saved_with_other_line_ends_and_quotes(tmp_path: Path) -> None:
    out = written(tmp_path / "rows.csv", [ANSWERS[0], ANSWERS[2]])
    header, first, last = out.read_text().split()[0], *out.read_text().splitlines()[1:]
    out.write_text(f'{header}\n{last}\n"{first.partition(",")[0]}",{first.partition(",")[2]}\n')
    assert rows_again(out) == [ANSWERS[2].row, ANSWERS[0].row]
    (tmp_path / "rows.csv.part").unlink()
    out.write_text(f"{header}\n{first}\n")
    with RowFile(out, CLASSES, {"model": "m"}) as file:
        items = [Item(answer.path, bytes) for answer in ANSWERS]
        assert [item.name for item in file.missing(items)] == [answer.path for answer in ANSWERS[1:]]


def through_pandas(out: Path) -> None:
    pd.read_parquet(out).to_parquet(out, index=False)


def without_a_column(out: Path) -> None:
    pq.write_table(pq.read_table(out).drop_columns(["label"]), out)


def no_parquet(out: Path) -> None:
    out.write_bytes(b"PAR1 and then nothing")


@pytest.mark.parametrize("change", [without_a_column, no_parquet])
def test_a_parquet_file_that_was_changed_is_refused_and_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    out = written(tmp_path / "rows.parquet")
    change(out)
    changed = out.read_bytes()
    with pytest.raises(FigleafError, match=r"rows\.parquet: .*nothing was written"):
        rows_again(out)
    assert out.read_bytes() == changed


def test_lines_that_lack_a_value_are_named(tmp_path: Path) -> None:
    out = written(tmp_path / "rows.jsonl")
    with out.open("a") as file:
        file.write('{"path": "c.png"}\n')
    with pytest.raises(FigleafError, match="line 4 is damaged"):
        rows_again(out)
