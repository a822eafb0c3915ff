"""`figleaf predict`: an answer for every file, in order, whatever the files, and whatever happens to the process."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bad_images import write_bad_corpus
from figleaf.cli import main
from figleaf.data.decode import decode, resize
from figleaf.data.manifest import Manifest
from figleaf.data.sharding import write_shards
from figleaf.errors import FigleafError
from figleaf.export.hashes import SUMS, hash_list
from figleaf.export.onnx_file import write_onnx
from figleaf.files import sha256_file
from figleaf.serve.items import INSIDE, Item, items_of
from figleaf.serve.predict import Answer, answers
from figleaf.serve.rows import RowFile
from figleaf.serve.tables import name_as_text
from figleaf.vgg.scorer import TorchScorer
from small_vgg import network

CLASSES, UNSAFE = ("safe", "nsfw"), ("nsfw",)
FACTS = {"classes": list(CLASSES), "unsafe": list(UNSAFE), "threshold": 0.5, "resize_rule": ""}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from figleaf.data.decode import RESIZE_RULE

    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_onnx(network(width=0.125, depth=11), path, {**FACTS, "resize_rule": RESIZE_RULE})
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "b" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(5):
        noise = rng.integers(0, 256, (40 + number, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / (f"b/deep/{number}.png" if number % 2 else f"{number}.png"))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"left out")
    return folder


def rows_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def predict(model: Path, *more: str) -> int:
    return main(["predict", *more, "--model", str(model)])


def test_every_file_of_a_folder_has_one_answer_in_order(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(model, str(pictures)) == 0
    rows = rows_of(capsys.readouterr().out)
    names = ["0.png", "2.png", "4.png", "b/deep/1.png", "b/deep/3.png", "notes.txt"]
    assert [row["path"] for row in rows] == [str(pictures / name) for name in names]
    assert [row["error"] is None for row in rows] == [True] * 5 + [False]
    assert "not an image" in str(rows[-1]["error"])


def test_scores_are_those_of_the_network(model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = network(width=0.125, depth=11)
    assert predict(model, str(pictures / "0.png"), str(pictures / "2.png"), "--threshold", "0") == 0
    rows = rows_of(capsys.readouterr().out)
    seen = np.stack([resize(decode(Path(str(row["path"]))), 64) for row in rows])
    logits = TorchScorer(net, CLASSES, UNSAFE).logits(seen).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, chances in zip(rows, expected, strict=True):
        assert row["score"] == pytest.approx(chances[1], abs=1e-4)
        assert row["probabilities"] == pytest.approx(dict(zip(CLASSES, chances, strict=True)), abs=1e-4)
        assert row["label"] == CLASSES[int(chances.argmax())]
        assert row["flagged"] is True


def test_the_whole_bad_corpus_has_answers(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_bad_corpus(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if not path.is_dir() and path.name[0] != ".")
    assert corpus
    assert predict(model, str(tmp_path), "--batch", "4") == 0
    rows = rows_of(capsys.readouterr().out)
    assert sorted(str(row["path"]) for row in rows) == sorted(name_as_text(str(file)) for file in files)
    assert all((row["error"] is None) == (row["score"] is not None) for row in rows)
    assert any(row["error"] for row in rows)


def test_archives_are_read_and_not_unpacked(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = (pictures / "0.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.png", png)
        archive.writestr("in/deep.png", png)
        archive.writestr("in/broken.png", png[:100])
        archive.writestr("__MACOSX/._deep.png", b"clutter")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("one.png")
        member.size = len(png)
        tar.addfile(member, io.BytesIO(png))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04 no archive")
    before = sorted(tmp_path.parent.rglob("*outside*"))
    assert predict(model, *(str(tmp_path / name) for name in ("a.zip", "b.tar.gz", "c.zip"))) == 0
    rows = {str(row["path"]).removeprefix(str(tmp_path)): row["error"] for row in rows_of(capsys.readouterr().out)}
    assert list(rows) == [
        f"/a.zip{INSIDE}../../outside.png",
        f"/a.zip{INSIDE}in/deep.png",
        f"/a.zip{INSIDE}in/broken.png",
        f"/b.tar.gz{INSIDE}one.png",
        f"/b.tar.gz{INSIDE}link.png",
        "/c.zip",
    ]
    assert [error is None for error in rows.values()] == [True, True, False, True, False, False]
    assert sorted(tmp_path.parent.rglob("*outside*")) == before


def test_a_bomb_and_an_encrypted_member_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figleaf.serve.items.MEMBER_MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"0" * 100_000)
    (item,) = items_of([str(tmp_path / "a.zip")])
    with pytest.raises(Exception, match="unpacks to more than 1,000 bytes"):
        item.read()


def shards_of(pictures: Path, folder: Path) -> Path:
    """The pictures and the text file below `pictures` as shards of two samples or so."""
    names = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("[0-9n]*.*"))
    rows = [{"path": name, "label": "nsfw", "split": "test", "mask": names[0]} for name in [*names, "gone.png"]]
    write_shards(Manifest.from_table(pd.DataFrame(rows), root=pictures, name="x"), folder, samples_max=2)
    return folder


def test_shards_score_like_the_folder(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = shards_of(pictures, tmp_path / "shards")
    assert predict(model, str(pictures)) == 0
    loose = rows_of(capsys.readouterr().out)
    assert predict(model, str(shards)) == 0
    found = rows_of(capsys.readouterr().out)
    assert [row["path"].partition(INSIDE)[2] for row in found][-1] == "gone.png"
    assert {row["path"].partition(INSIDE)[0] for row in found} == {str(path) for path in shards.glob("*.tar")}
    assert found.pop()["error"] == "no such file"
    own = [{**row, "path": str(pictures / row["path"].partition(INSIDE)[2])} for row in found]
    assert own == sorted(loose, key=lambda row: str(row["path"]))


def test_a_damaged_shard_is_a_row_that_says_so(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = shards_of(pictures, tmp_path / "shards")
    first = shards / "shard-00000.tar"
    whole = first.read_bytes()
    first.write_bytes(whole[: whole.index(b"000000001.json")])  # between two samples: as a tar file it looks whole
    assert predict(model, str(first)) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row["path"] for row in rows] == [f"{first}{INSIDE}0.png", str(first)]
    assert rows[1]["error"] == "a broken archive: it ends after 1 of 2 samples"
    (shards / "shard-00002.tar").unlink()
    assert predict(model, str(shards)) == 0  # what can be read of the others has its rows
    rows = rows_of(capsys.readouterr().out)
    told = [str(row["path"]).removeprefix(f"{shards}/shard-0000") for row in rows]
    assert told == ["0.tar::0.png", "0.tar", "1.tar::4.png", "1.tar::b/deep/1.png", "2.tar", "3.tar::gone.png"]
    assert rows[4]["error"] == "no such file or folder"
    (shards / "shards.json").write_text((shards / "shards.json").read_text().replace("shard-00003", "../x"))
    assert predict(model, str(shards)) == 0
    (row,) = rows_of(capsys.readouterr().out)
    assert (row["path"], "which is no shard of this folder" in str(row["error"])) == (str(shards), True)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_of_rows_is_gone_on_with(model: Path, pictures: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"scores{suffix}"
    assert predict(model, str(pictures / "b"), "--out", str(out)) == 0
    assert len(read(out)) == 2
    first = read(out)
    assert predict(model, str(pictures), str(pictures / "b"), "--out", str(out)) == 0
    again = read(out)
    assert again[:2] == first
    assert sorted(row["path"] for row in again) == sorted({row["path"] for row in again})
    assert len(again) == 6
    assert not list(tmp_path.glob("*.part"))
    probabilities = [row for row in again if row["score"] not in ("", None)]
    assert len(probabilities) == 5


def read(out: Path) -> list[dict[str, object]]:
    if out.suffix == ".jsonl":
        return rows_of(out.read_text())
    if out.suffix == ".csv":
        return list(csv.DictReader(out.open(newline="")))
    return pq.read_table(out).to_pylist()


def test_the_files_being_written_are_not_scored(model: Path, pictures: Path) -> None:
    for _ in range(2):
        assert predict(model, str(pictures), "--out", str(pictures / "scores.csv")) == 0
        assert len(read(pictures / "scores.csv")) == 6


@pytest.mark.slow
def test_killed_at_any_moment_no_row_is_lost_or_doubled(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(400):
        Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(folder / f"{number:04d}.png")
    (folder / "bad.png").write_bytes(b"bad")
    out = tmp_path / "scores.csv"
    command = [sys.executable, "-m", "figleaf.cli", "predict", str(folder), "--model", str(model), "--out", str(out)]
    command += ["--batch", "8"]
    lines = out.with_name("scores.csv.part")
    had = 0
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            now = lines.read_bytes().count(b"\n") if lines.exists() else 0
            if now > had + 20:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not lines.exists():
            break
        had = lines.read_bytes().count(b"\n")
        with lines.open("ab") as file:
            file.write(b'{"path": "half a li')  # what a kill in the middle of a write would leave
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    paths = [str(row["path"]) for row in read(out)]
    assert sorted(paths) == sorted(map(str, folder.iterdir()))


def test_rows_of_another_model_or_threshold_are_not_mixed(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.jsonl"
    assert predict(model, str(pictures), "--out", str(out)) == 0
    kept = out.read_bytes()
    assert predict(model, str(pictures), "--out", str(out), "--threshold", "0.9") == 2
    assert "holds rows of another model, threshold or policy" in capsys.readouterr().err
    assert out.read_bytes() == kept


def test_a_file_of_somebody_else_is_left_alone(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n")
    assert predict(model, str(pictures), "--out", str(tmp_path / "mine.csv")) == 2
    assert "no run of predict wrote it" in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    first, second = (RowFile(tmp_path / "a.jsonl", CLASSES, {"model": "x"}) for _ in range(2))
    with first, pytest.raises(FigleafError, match="another figleaf predict is writing it"):
        second.__enter__()


def test_names_that_are_no_utf8_survive(model: Path, pictures: Path, tmp_path: Path) -> None:
    odd = os.fsencode(pictures) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes((pictures / "0.png").read_bytes())
    for suffix in (".jsonl", ".csv", ".parquet"):
        out = tmp_path / f"odd{suffix}"
        for _ in range(2):
            assert predict(model, str(pictures), "--out", str(out)) == 0
            assert len(read(out)) == 7


def test_a_list_on_standard_input(model: Path, pictures: Path) -> None:
    listed = f"{pictures / '0.png'}\n\n{pictures / '2.png'}\n"
    command = [sys.executable, "-m", "figleaf.cli", "predict", "-", "--model", str(model)]
    done = subprocess.run(command, input=listed, capture_output=True, text=True)
    assert done.returncode == 0
    assert [row["path"] for row in rows_of(done.stdout)] == [str(pictures / "0.png"), str(pictures / "2.png")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["https://example.org/a.png"], "addresses are never fetched"),
        (["nothing.png"], "nothing.png: no such file or folder"),
        ([".", "--batch", "0"], "--batch 0: expected at least 1"),
        ([".", "--threshold", "2"], "--threshold 2.0: expected 0 to 1"),
        ([".", "--out", "scores.xlsx"], "expected a name that ends in .jsonl, .csv, .parquet"),
    ],
)
def test_mistakes_are_named(model: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(model, *more) == 2
    caught = capsys.readouterr()
    assert message in caught.err
    assert caught.out == ""


class Slow:
    """A scorer that counts what it is given."""

    classes, unsafe, input_size = CLASSES, UNSAFE, 8

    def __init__(self) -> None:
        self.batches: list[int] = []

    def logits(self, rgb_u8: np.ndarray) -> np.ndarray:
        self.batches.append(len(rgb_u8))
        return np.zeros((len(rgb_u8), 2), np.float32)


def test_no_more_is_read_than_two_batches_ahead() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), buffer.getvalue)

    scorer = Slow()
    found = answers(scorer, endless(), batch_size=4, workers=2)
    for number in range(40):
        answer = next(found)
        assert answer == Answer(str(number + 1), None, "safe", 0.5, None, {"safe": 0.5, "nsfw": 0.5})
        assert taken <= number + 1 + 12
    assert set(scorer.batches) == {4}
    found.close()  # type: ignore[attr-defined]


def test_logits_that_are_not_finite_are_errors() -> None:
    class Broken(Slow):
        def logits(self, rgb_u8: np.ndarray) -> np.ndarray:
            return np.full((len(rgb_u8), 2), np.nan, np.float32)

    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    (answer,) = answers(Broken(), [Item("a", buffer.getvalue)])
    assert answer.error == "the logits are not finite"
    assert json.loads(json.dumps(answer.row))["score"] is None


def test_a_folder_in_the_models_place_is_told_by_the_options_name(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", ".", "--model", str(model.parent)]) == 2
    assert f"--model {model.parent}: a folder; did you mean --model {model}?" in capsys.readouterr().err


def test_a_path_in_a_list_that_is_gone_is_a_row(model: Path, pictures: Path, tmp_path: Path) -> None:
    listed = "\n".join(map(str, (pictures / "0.png", "gone.png", "https://example.org/a.png", pictures / "2.png")))
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "figleaf.cli", "predict", "-", "--model", str(model), "--out", str(out)]
    done = subprocess.run(command, input=listed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["error"] for row in rows_of(out.read_text())] == [
        None, "no such file or folder", "addresses are never fetched", None,
    ]  # fmt: skip


def test_a_damaged_line_is_named_and_what_stands_behind_it_stays(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    assert predict(model, str(pictures), "--out", str(out)) == 0
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join([lines[0], "{broken\n", *lines[2:]]))
    before = out.read_bytes()
    assert predict(model, str(pictures), "--out", str(out)) == 2
    assert "line 2 is damaged" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["nothing", "best:nothing", "gone.onnx", "0123456789abcdef0123456789abcdef"])
def test_a_model_that_is_not_there_is_told_by_the_options_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path))
    assert main(["predict", ".", "--model", name]) == 2
    told = capsys.readouterr().err
    assert f"error: --model {name}: " in told
    assert "run=" not in told


def test_a_file_called_like_an_escape_has_a_row_of_its_own(model: Path, pictures: Path, tmp_path: Path) -> None:
    picture = (pictures / "0.png").read_bytes()
    for name in (b"/\xff.png", rb"/\xff.png", rb"/a\b.png"):
        Path(os.fsdecode(os.fsencode(pictures) + name)).write_bytes(picture)
    names = {path.name for path in pictures.iterdir()}
    assert {"\udcff.png", "\\xff.png", "a\\b.png"} <= names
    for suffix in (".csv", ".parquet"):
        out = tmp_path / f"odd{suffix}"
        for _ in range(2):
            assert predict(model, str(pictures), "--out", str(out)) == 0
        texts = [str(row["path"]).removeprefix(f"{pictures}/") for row in read(out)]
        assert len(set(texts)) == len(texts) == 9
        assert {r"\xff.png", r"\\xff.png", r"a\b.png"} <= set(texts)


def closed(*streams: int) -> Callable[[], None]:
    return lambda: [os.close(stream) for stream in streams] and None


@pytest.mark.parametrize(
    ("streams", "paths", "code"), [((0,), ["-"], 2), ((1,), ["0.png"], 0), ((2,), ["0.png"], 0), ((0, 1, 2), ["."], 0)]
)
def test_closed_streams_leave_no_traceback(
    model: Path, pictures: Path, streams: tuple[int, ...], paths: list[str], code: int
) -> None:
    command = [sys.executable, "-m", "figleaf.cli", "predict", *paths, "--model", str(model)]
    out = ["--out", "rows.csv"] if len(streams) == 3 else []
    done = subprocess.run(
        [*command, *out], cwd=pictures, preexec_fn=closed(*streams), capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code:
        assert "-: standard input is closed" in done.stderr
    if streams == (2,):
        assert len(rows_of(done.stdout)) == 1
    if out:
        assert len(read(pictures / "rows.csv")) == 6


def test_a_reader_that_has_seen_enough_is_no_error(model: Path, pictures: Path) -> None:
    command = [sys.executable, "-m", "figleaf.cli", "predict", str(pictures), "--model", str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait() == 0
    assert told == b""


def test_a_model_that_is_not_what_the_list_beside_it_says_is_refused(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "export" / "model.onnx"
    copy.parent.mkdir()
    copy.write_bytes(model.read_bytes())
    (copy.parent / SUMS).write_text(hash_list({"model.onnx": sha256_file(copy)}))
    assert predict(copy, str(pictures / "0.png")) == 0
    (copy.parent / SUMS).write_text(hash_list({"model.onnx": "0" * 64}))
    assert predict(copy, str(pictures / "0.png")) == 2
    assert "damaged or exchanged" in capsys.readouterr().err
    (copy.parent / SUMS).write_text("somebody's own list")
    assert predict(copy, str(pictures / "0.png")) == 0


def test_a_name_that_is_no_utf_8_is_strict_json_and_the_same_everywhere(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes((pictures / "0.png").read_bytes())
    expected = f"{tmp_path}/\\xff.png"
    assert predict(model, os.fsdecode(odd)) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["path"] == expected
    assert "udcff" not in told
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        for _ in range(2):  # the second time it is there already
            assert predict(model, os.fsdecode(odd), "--out", str(tmp_path / name)) == 0
        read = {"a.jsonl": lambda file: pd.read_json(file, lines=True), "a.csv": pd.read_csv}
        table = read.get(name, pd.read_parquet)(tmp_path / name)
        assert table["path"].tolist() == [expected]
