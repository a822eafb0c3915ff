"""What is no manifest is named for what it is, with the way out, before anything is read from it."""

import os
from pathlib import Path

import pandas as pd
import pytest

from figleaf.data.manifest import load_manifest
from figleaf.data.manifest_file import manifest_file
from figleaf.errors import FigleafError

CSV = b"path,label,split\na.jpg,sfw,train\nb.jpg,nsfw,val\n"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.csv", CSV.replace(b",", b";"), r"separated by semicolons \('path;label;split'\): save it with commas"),
        ("m.csv", b"\xef\xbb\xbf" + CSV.replace(b",", b";"), "separated by semicolons"),
        ("m.csv", b"path;label;split\na,b.jpg;sfw;train\n", "separated by semicolons"),
        ("m.tsv", CSV.replace(b",", b"\t"), "separated by tabs"),
        ("m.csv", CSV.replace(b",", b"|"), "separated by bars"),
        ("m.csv", CSV.decode().encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("m.csv", b"PK\x03\x04 and so on", "a spreadsheet or another ZIP file: save it as CSV"),
        ("m.csv", b"PAR1 and so on", r"let it end in \.parquet"),
        ("m.parquet", CSV, r"if it is a CSV file, let it end in \.csv"),
        ("m.csv", b"", "it is empty"),
        ("m.csv", CSV.replace(b"sfw", b"n\xfc"), "cannot be read as UTF-8 .* save it as UTF-8"),
        ("m.csv", CSV + b"c,d.jpg,sfw,test\n", "line 4, saw 4; a value that holds a comma.* is written in quotes"),
        ("m.csv", b"path,label,split\na,b.jpg,sfw,train\nc,d.jpg,nsfw,val\n", "a value that holds a comma"),
        ("m.csv", CSV + b'"c.jpg,sfw,test\n', "EOF inside string .* is written in quotes"),
    ],
)
def test_table_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FigleafError, match=told) as caught:
        load_manifest(tmp_path / name)
    assert str(caught.value).startswith(f"manifest {tmp_path / name}: ")


def test_folder_is_no_manifest_though_it_may_hold_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(FigleafError, match=r"x\.csv: a folder, not a file; `figleaf data index .*x\.csv` makes"):
        manifest_file(tmp_path / "x.csv")
    (tmp_path / "manifest.csv").write_bytes(CSV)
    with pytest.raises(FigleafError, match=r"a folder, not a file; did you mean .*manifest\.csv\?"):
        manifest_file(tmp_path)


def test_what_is_not_there_or_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, told in [("gone.csv", "no such file; make one"), ("pipe.csv", "not a regular file")]:
        with pytest.raises(FigleafError, match=told):
            manifest_file(tmp_path / name)
    with pytest.raises(FigleafError, match=r"xxx.*: cannot be read: File name too long"):
        manifest_file("x" * 300)
    with pytest.raises(FigleafError, match=r"data\.manifest=null: .* `figleaf data index FOLDER` makes one"):
        manifest_file(None)


def test_manifest_is_found_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.csv").write_bytes(CSV)
    assert load_manifest("~/m.csv", root="~").paths[0] == tmp_path / "a.jpg"


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_another_separator_in_a_value_is_none_of_the_table(tmp_path: Path, separator: str) -> None:
    table = pd.DataFrame({"path": [f"a{separator}.jpg"], "label": ["nsfw"], "split": ["test"], f"x{separator}": ["1"]})
    table.to_csv(tmp_path / "m.csv", index=False)
    assert load_manifest(tmp_path / "m.csv").table["path"].tolist() == [f"a{separator}.jpg"]
