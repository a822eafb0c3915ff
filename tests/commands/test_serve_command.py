"""`figleaf serve`: the real command, from its start to its end."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from egress import guarded
from figleaf.cli import main
from figleaf.evaluate.policy import Policy, Rule
from figleaf.export.hashes import hash_list
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.files import sha256_file
from tiny_onnx import CLASSES, UNSAFE, write_tiny_onnx

HEAVY = ("torch", "pytorch_lightning", "mlflow", "pandas", "hydra", "sklearn")
TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an export leaves it: the file, and the list of hashes."""
    folder = tmp_path_factory.mktemp("bundle")
    path = write_tiny_onnx(folder / "model.onnx")
    (folder / "SHA256SUMS").write_text(hash_list({path.name: sha256_file(path)}))
    return folder


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    found = []
    for rgb_u8 in np.random.default_rng(1).integers(0, 256, (24, 40, 30, 3), dtype=np.uint8):
        buffer = BytesIO()
        Image.fromarray(rgb_u8).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command in a process of its own: its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "figleaf.cli", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "http://" in line), "nothing")
        yield "http://" + said.partition("http://")[2].split(";")[0].split(",")[0], process
    finally:
        process.kill()
        process.communicate()


def post(url: str, contents: list[bytes], **headers: str) -> Any:
    body = json.dumps({"inputs": [base64.b64encode(content).decode() for content in contents]}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as got:
        return json.load(got)["predictions"]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as got:
        return json.load(got)


def test_a_folder_is_served_with_the_scores_of_its_file_batched_or_not(bundle: Path, encoded: list[bytes]) -> None:
    scorer = OnnxScorer(bundle / "model.onnx")
    expected = [scorer.score(content) for content in encoded]
    with serving(f"model={bundle}", "--batch-wait-ms", "200", "--batch-size", "8") as (url, _):
        together = post(url, encoded)
        alone = [post(url, [content])[0] for content in encoded[:3]]
        about = get(f"{url}/about")
        batches = urllib.request.urlopen(f"{url}/metrics", timeout=30).read().decode()
    assert [row["score"] for row in together] == pytest.approx(expected, abs=1e-5)
    assert [row["score"] for row in alone] == pytest.approx(expected[:3], abs=1e-5)
    assert "figleaf_batch_size_count 6.0" in batches  # three of eight, three of one
    assert about["model"]["identity"] == sha256_file(bundle / "model.onnx")
    assert about["model"]["classes"] == list(CLASSES)
    assert about["model"]["threshold"] == 0.5
    assert about["model"]["data_name"] == "noise"
    assert about["policy"] is None
    assert str(bundle) not in json.dumps(about)


def test_a_policy_is_applied_and_told(bundle: Path, encoded: list[bytes], tmp_path: Path) -> None:
    path = Policy("", CLASSES, UNSAFE, 1.5, (Rule("review", 0.0),)).save(tmp_path / "policy.json", {})
    with serving("--model", str(bundle / "model.onnx"), "--policy", str(path)) as (url, _):
        assert post(url, encoded[:1])[0]["action"] == "review"
        told = get(f"{url}/")
    assert told["policy"]["rules"] == [{"action": "review", "at_least": 0.0}]
    assert told["policy"]["sha256"] == sha256_file(path)
    assert told["model"]["threshold"] is None


def test_an_exported_file_is_served_without_anything_heavy(bundle: Path, encoded: list[bytes]) -> None:
    (bundle / "picture.png").write_bytes(encoded[0])
    code = f"""
import io, json, os, signal, sys, threading, urllib.request
from figleaf.cli import main
read, written = os.pipe()
sys.stderr = os.fdopen(written, "w", buffering=1)
said = os.fdopen(read)
def ask():
    line = next(line for line in said if "http://" in line)
    url = "http://" + line.partition("http://")[2].split(";")[0]
    part = b'--B\\r\\nContent-Disposition: form-data; name="images"; filename="a"\\r\\n\\r\\n'
    body = part + open({str(bundle / "picture.png")!r}, "rb").read() + b"\\r\\n--B--\\r\\n"
    kind = {{"Content-Type": "multipart/form-data; boundary=B"}}
    got = json.load(urllib.request.urlopen(urllib.request.Request(url + "/predict", body, kind)))
    print(got["predictions"][0]["error"], sorted(set({HEAVY!r}) & set(sys.modules)))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=ask).start()
print(main(["serve", {"model=" + str(bundle)!r}, "--port", "0"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines() == ["None []", "0"], done.stderr


def test_it_talks_to_nobody(bundle: Path, encoded: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    log = tmp_path / "egress.log"
    with serving(f"model={bundle}", **guarded(tmp_path / "guard", log)) as (url, _):
        assert post(url, encoded[:2])
    assert not log.exists()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_answers_what_has_begun_and_closes_its_port(
    bundle: Path, encoded: list[bytes], ending: signal.Signals
) -> None:
    with serving(f"model={bundle}") as (url, process):
        host, port = url.removeprefix("http://").split(":")
        part = b'--B\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        body = part + encoded[0] + b"\r\n--B--\r\n"
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(head.encode() + body[:500])
            get(f"{url}/health")  # an answer on another connection: the first request has been seen
            process.send_signal(ending)
            assert closes(host, int(port))
            client.sendall(body[500:])
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not out
    assert errors.splitlines() == ["the server has ended"]


def closes(host: str, port: int) -> bool:
    """Whether nobody is let in any more, within ten seconds."""
    for _ in range(200):
        try:
            socket.create_connection((host, port), timeout=30).close()
        except ConnectionError:
            return True
        time.sleep(0.05)
    return False


def test_a_token_of_the_environment_is_asked_for_and_not_shown(bundle: Path, encoded: list[bytes]) -> None:
    with serving(f"model={bundle}", "--host", "0.0.0.0", FIGLEAF_TOKEN=TOKEN) as (url, process):
        local = url.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            post(local, encoded[:1])
        assert post(local, encoded[:1], Authorization=f"Bearer {TOKEN}")
        process.terminate()
        out, errors = process.communicate(timeout=30)
    assert TOKEN not in out + errors + " ".join(map(str, process.args))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["model=missing.onnx"], "missing.onnx: no such file"),
        (["model=BUNDLE", "--host", "0.0.0.0"], "token"),
        (["model=BUNDLE", "--port", "70000"], "--port 70000"),
        (["model=BUNDLE", "model=BUNDLE"], "one model=MODEL"),
        (["model=BUNDLE", "batch_size=3"], "one model=MODEL"),
        (["model=BUNDLE", "--batch-size", "0"], "--batch-size 0"),
        (["model=BUNDLE", "--max-picture-mb", "nan"], "--max-picture-mb"),
        (["model=BUNDLE", "--max-pictures", "500"], "never fits"),
        (["model=BUNDLE", "--threshold", "2"], "--threshold 2"),
        (["model=BUNDLE", "--threshold", "0.5", "--policy", "x.json"], "one of the two"),
        (["model=BUNDLE", "--policy", "x.json"], "x.json: no such file"),
        (["model=BUNDLE", "--token-file", "x"], "--token-file x"),
        (["model=EMPTY"], "without model.onnx"),
        (["model=CHANGED"], "changed"),
    ],
)
def test_a_mistake_is_named(
    arguments: list[str], told: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    shutil.copytree(bundle, tmp_path / "CHANGED")
    with (tmp_path / "CHANGED" / "model.onnx").open("ab") as file:
        file.write(b"x")
    places = {"model=BUNDLE": f"model={bundle}"} | {
        f"model={name}": f"model={tmp_path / name}" for name in ("EMPTY", "CHANGED")
    }
    chosen = [places.get(argument, argument) for argument in arguments]
    assert main(["serve", *([] if "--port" in chosen else ["--port", "0"]), *chosen]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.startswith("error: ")


def test_a_port_that_is_taken_and_a_missing_extra_are_named(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", f"model={bundle}", "--port", str(taken.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err
    monkeypatch.setattr("figleaf.commands.serve.find_spec", lambda name: None if name == "fastapi" else object())
    assert main(["serve", f"model={bundle}"]) == 2
    assert "needs fastapi: pip install 'figleaf[http]'" in capsys.readouterr().err
