"""What MLflow serves: a row for every picture, the numbers of `figleaf predict`, code that stands on its own feet."""

import ast
import base64
import io
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.serve import shipped
from figleaf.serve.items import Item
from figleaf.serve.mlflow_model import answering
from figleaf.serve.mlflow_model.answering import answered
from figleaf.serve.predict import answers
from figleaf.serve.shipped import needed, ship
from small_vgg import network

ONNX = "figleaf.serve.mlflow_model.onnx_file"


def png(seed: int = 0, size: tuple[int, int] = (50, 70)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> OnnxScorer:
    from figleaf.data.decode import RESIZE_RULE

    facts = {"classes": ["label", "nsfw"], "unsafe": ["nsfw"], "threshold": 0.5, "resize_rule": RESIZE_RULE}
    return OnnxScorer(write_onnx(network(depth=11), tmp_path_factory.mktemp("model") / "model.onnx", facts))


def test_base64_and_bytes_have_the_answers_of_predict(scorer: OnnxScorer) -> None:
    pictures = [png(seed) for seed in range(3)]
    expected = list(answers(scorer, [Item("x", lambda p=p: p) for p in pictures], threshold=0.5))
    text = [base64.b64encode(picture).decode() for picture in pictures]
    broken_lines = ["\n".join(one[i : i + 76] for i in range(0, len(one), 76)) for one in text]  # as of MIME
    for given in (pictures, text, broken_lines, [bytearray(picture) for picture in pictures]):
        rows = answered(scorer, given, 0.5)
        assert [row["score"] for row in rows] == [answer.score for answer in expected]
        assert [row["flagged"] for row in rows] == [answer.flagged for answer in expected]
        assert all(row["error"] is None for row in rows)
        # A class may be called as a column of ours is.
        assert rows[0]["prob_label"] == expected[0].probabilities["label"]  # type: ignore[index]
        assert rows[0]["label"] == expected[0].label


def test_one_row_out_for_every_row_in_whatever_it_holds(scorer: OnnxScorer) -> None:
    given = [png(), "no base64!", None, float("nan"), 3, "", b"", base64.b64encode(b"text").decode(), png()[:100], [1]]
    rows = answered(scorer, given, None)
    assert [row["error"] is None for row in rows] == [True, *[False] * 9]
    assert all(row["label"] is row["score"] is row["prob_nsfw"] is None for row in rows[1:])
    reasons = [str(row["error"]) for row in rows[1:]]
    assert reasons[:3] == ["not base64 of a picture's file", "no picture in this row", "no picture in this row"]
    assert reasons[3] == "expected base64 or bytes of a picture's file, found int"
    assert rows[0].keys() == rows[1].keys()


def test_files_and_pictures_beyond_the_caps_are_not_decoded(
    scorer: OnnxScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MAX_BYTES", 1000)
    decoded = []
    monkeypatch.setattr(answering.base64, "b64decode", lambda text, validate: decoded.append(text))
    rows = answered(scorer, ["A" * 1400, b"x" * 1001], None)
    assert [row["error"] for row in rows] == [
        "text of 1,400 characters; at most 1,000 bytes are read",
        "file of 1,001 bytes; at most 1,000 are read",
    ]
    assert not decoded
    monkeypatch.undo()
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + png()[24:29]  # a bomb: 3.6 thousand million pixels
    bomb = png()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png()[33:]
    (row,) = answered(scorer, [bomb], None)
    assert "pixels" in row["error"]


def test_the_copies_import_nothing_of_figleaf_but_each_other(tmp_path: Path) -> None:
    found = ship(ONNX, tmp_path)
    sources = [*found.package.rglob("*.py"), found.entry]
    assert {file.relative_to(found.package).as_posix() for file in sources[:-1]} == set(needed(ONNX))
    for file in sources:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert "figleaf" not in {name.split(".")[0] for name in names}, file
    # All that stands behind them is what the base installation has, and MLflow with its pandas.
    outside = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]  # type: ignore[union-attr]
        for file in sources
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {"torch", "sklearn", "scipy"}.isdisjoint(outside)
    assert {"numpy", "PIL", "onnxruntime", "mlflow", "pandas"} <= outside


def test_other_code_has_another_name_and_the_same_code_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (ship(ONNX, tmp_path / name).package for name in "ab")
    assert first.name == again.name
    copy = tmp_path / "figleaf"
    shutil.copytree(Path(shipped.__file__).parents[1], copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "errors.py").write_text((copy / "errors.py").read_text() + "\n# later\n")
    monkeypatch.setattr(shipped, "_PACKAGE", copy)
    assert ship(ONNX, tmp_path / "c").package.name != first.name


def test_what_a_module_imports_inside_functions_is_needed_too() -> None:
    torch_side = needed("figleaf.serve.mlflow_model.safetensors_file")
    assert "vgg/keras_runtime.py" in torch_side  # imported where a Keras file is read
    assert not [file for file in torch_side if file.startswith(("skin", "tracking", "study", "commands", "train"))]
