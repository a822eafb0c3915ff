"""`figleaf serve`: an HTTP server that scores what is sent to it."""

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import parse_mixed, parser, say
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedScorer
    from figleaf.evaluate.policy import Policy
    from figleaf.serve.http.limits import Limits

EPILOG = """\
MODEL is an exported .onnx file or the folder of an export (they need neither torch nor MLflow, only
`pip install 'figleaf[http]'`), a .safetensors file, or a run by any of its names.

  POST /predict      multipart/form-data, one or more pictures in the field images; for each, in order, name, score,
                     flagged, action (with --policy), label, probabilities, error, status
  POST /invocations  what `mlflow models serve` takes: JSON with dataframe_split, dataframe_records, instances or
                     inputs, base64 in the column image; the same answers without names
  GET  /about        the model, its classes, threshold and hashes, the policy, the limits; / is the same
  GET  /health       200 when pictures are scored (/health/ready is the same, /health/live: the process answers);
                     /ping and /version as MLflow has them; /metrics for Prometheus; /openapi.json

The answer is 200 when at least one picture has a score. Where none has, it is 413 (too many bytes, pictures or pixels),
415 (no picture), 422 (a broken one) or 400 (a broken request), with the reason as JSON. 503 with Retry-After is stated
overload: the queue is full, or too many bytes are held. 408 and 504: not in time. EXIF rotation, alpha, CMYK, 16 bits
and the first frame of animations are treated as `figleaf predict` treats them. Pictures are kept in memory until they
are answered; nothing of them is stored or logged.

Without a token only this machine may reach the server, and another --host is refused; a request must name this machine
(Host: localhost or a loopback address), so that no web page of elsewhere uses it through a browser. With a token, every
request but /health and /ping must bring `Authorization: Bearer TOKEN`. It is read from --token-file or the variable
FIGLEAF_TOKEN, never from the command line. The server speaks plain HTTP: towards other machines put a proxy with TLS
before it.

While they are decoded, --workers pictures may take about 20 bytes a pixel each: 1.6 GB with two of 40 million.
SIGTERM or Ctrl-C ends the server: what has begun is answered first.

examples:
  figleaf serve model=export/demo
  figleaf serve model=export/demo/model.onnx --policy demo-policy.json --port 0
  FIGLEAF_TOKEN=$(cat secret) figleaf serve --model best:demo --host 0.0.0.0
  curl -F images=@a.jpg -F images=@b.png http://127.0.0.1:8000/predict
"""
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_TOLD = ("run_name", "data_name", "data_hash", "licence", "git_commit", "figleaf_version")  # of a file's own metadata


def main(arguments: Sequence[str]) -> int:
    """Serve until told to end."""
    options = _options(arguments)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise FigleafError(f"`figleaf serve` needs {', '.join(missing)}: pip install 'figleaf[http]'")
    from figleaf.commands.scorers import open_model, policy_for
    from figleaf.serve.http.app import build_app
    from figleaf.serve.http.running import listening_socket, server_of, url_of
    from figleaf.serve.http.scoring import Scoring
    from figleaf.serve.http.token import read_token
    from figleaf.tracking.signals import EndingSignals

    limits = _limits(options)
    token = read_token(options.token_file, os.environ, say)
    # Before the model is opened, which may take long: a port that is taken is told at once.
    with listening_socket(options.host, options.port, is_protected=token is not None) as listening:
        path = _file_of(options.model)
        cores = len(os.sched_getaffinity(0))
        opened = open_model(str(path or options.model), threads=options.threads or max(1, cores // 2))
        policy = None if options.policy is None else policy_for(opened, options.policy)
        threshold = opened.threshold if options.threshold is None else options.threshold
        _warm_up(opened)
        if policy is None and threshold is None and opened.scorer.unsafe:
            say(f"{opened.name} holds no threshold: nothing is flagged; --threshold sets one")
        scoring = Scoring(
            opened.scorer,
            limits,
            threshold=threshold,
            policy=policy,
            batch_size=options.batch_size,
            batch_wait_s=options.batch_wait_ms / 1000,
            workers=options.workers or cores,
        )
        app = build_app(scoring, _about(opened, threshold, policy, options, limits), token)
        signals = EndingSignals()
        signals.raise_exit()
        try:
            say(f"{opened.name} at {url_of(listening)}{'' if token is None else ', with a token'}; Ctrl-C ends it")
            server_of(app, options.grace).run(sockets=[listening])
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            signals.restore()
    say("the server has ended")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    known = parser("serve", "Score what is sent over HTTP: bounded, batched, on this machine.", EPILOG)
    known.add_argument("overrides", nargs="*", metavar="model=MODEL", help="an exported file or folder, or a run")
    known.add_argument("--model", metavar="MODEL", help="the same as model=MODEL")
    known.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only; others take a token")
    known.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes one that is free")
    known.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token that clients must bring")
    known.add_argument("--threshold", type=float, metavar="T", help="flag from this score on; default: the model's")
    known.add_argument("--policy", type=Path, metavar="FILE", help="of `figleaf calibrate`: an action for each picture")
    known.add_argument("--batch-size", type=int, default=16, metavar="N", help="pictures scored at once; default 16")
    known.add_argument(
        "--batch-wait-ms", type=float, default=2.0, metavar="MS", help="how long a picture waits for others; default 2"
    )
    known.add_argument("--workers", type=int, metavar="N", help="threads that decode; default: the cores")
    known.add_argument("--threads", type=int, metavar="N", help="threads that score ONNX; default: half of the cores")
    known.add_argument("--queue", type=int, default=256, metavar="N", help="pictures that may wait; default 256")
    known.add_argument("--max-pictures", type=int, default=32, metavar="N", help="of a request; default 32")
    known.add_argument("--max-picture-mb", type=float, default=16, metavar="MB", help="of a picture; default 16 MiB")
    known.add_argument("--max-request-mb", type=float, default=32, metavar="MB", help="of a request; default 32 MiB")
    known.add_argument(
        "--max-held-mb", type=float, default=256, metavar="MB", help="of all requests together; default 256 MiB"
    )
    known.add_argument("--max-pixels", type=int, default=40_000_000, metavar="N", help="of a picture; default 40000000")
    known.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="for a body to arrive, then for its scores; default 30"
    )
    known.add_argument("--grace", type=int, default=30, metavar="S", help="for what has begun, at the end; default 30")
    options = parse_mixed(known, arguments)
    for given in options.overrides:
        key, _, value = given.partition("=")
        if key != "model" or options.model is not None:
            raise FigleafError(f"{given}: expected one model=MODEL; all else is an option, see `figleaf serve --help`")
        options.model = value
    if not options.model:
        known.error("which model? model=MODEL is required")
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    for name in ("batch_size", "workers", "threads", "queue", "max_pictures", "max_pixels", "grace"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise FigleafError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    for name in ("max_picture_mb", "max_request_mb", "max_held_mb", "timeout"):
        if not 0 < getattr(options, name) <= 1e6:
            raise FigleafError(f"--{name.replace('_', '-')} {getattr(options, name):g}: expected more than 0, to 1e6")
    if not 0 <= options.batch_wait_ms <= 10_000:
        raise FigleafError(f"--batch-wait-ms {options.batch_wait_ms:g}: expected 0 to 10000")
    if not 0 <= options.port <= 65_535:
        raise FigleafError(f"--port {options.port}: expected 0 to 65535")
    if options.threshold is not None and options.policy is not None:
        raise FigleafError("--threshold and --policy: the policy holds its own thresholds; give one of the two")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise FigleafError(f"--threshold {options.threshold}: expected 0 to 1")


def _limits(options: argparse.Namespace) -> "Limits":
    from figleaf.serve.http.limits import Limits

    return Limits(
        picture_bytes=round(options.max_picture_mb * 2**20),
        request_bytes=round(options.max_request_mb * 2**20),
        held_bytes=round(options.max_held_mb * 2**20),
        pictures=options.max_pictures,
        pixels=options.max_pixels,
        queue=options.queue,
        seconds=options.timeout,
    )


def _file_of(model: str) -> Path | None:
    """The ONNX file of an export's folder, whose hash must be the listed one; None for everything but a folder."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return None
    from figleaf.export.hashes import GOOD, SUMS, file_states

    path = folder / "model.onnx"
    if not path.is_file():
        raise FigleafError(
            f"model={model}: a folder without model.onnx; `figleaf export` writes one with format=[onnx]"
        )
    state = file_states(folder).get(path.name) if (folder / SUMS).is_file() else GOOD
    if state != GOOD:
        raise FigleafError(
            f"{path}: {state or 'not listed'} by {folder / SUMS}, so not what was exported; "
            f"`figleaf export verify {model}` tells more"
        )
    return path


def _warm_up(opened: "OpenedScorer") -> None:
    """Score once, so that a model that cannot is told now, and the first request does not wait."""
    import numpy as np

    size = opened.scorer.input_size
    opened.scorer.logits(np.zeros((1, size, size, 3), np.uint8))


def _about(
    opened: "OpenedScorer",
    threshold: float | None,
    policy: "Policy | None",
    options: argparse.Namespace,
    limits: "Limits",
) -> dict[str, Any]:
    """What `/about` tells: nothing of this machine's paths."""
    from figleaf import __version__
    from figleaf.data.decode import RESIZE_RULE
    from figleaf.files import sha256_file

    metadata = getattr(opened.scorer, "metadata", {})
    return {
        "figleaf": __version__,
        "model": {
            "name": opened.name,
            "identity": opened.identity,
            "run_id": opened.run_id,
            "classes": list(opened.scorer.classes),
            "unsafe": list(opened.scorer.unsafe),
            "threshold": None if policy is not None else threshold,
            "input_size": opened.scorer.input_size,
            "resize_rule": RESIZE_RULE,
            **{key: metadata[key] for key in _TOLD if key in metadata},
        },
        "policy": None
        if policy is None
        else {
            "sha256": sha256_file(options.policy.expanduser()),
            "temperature": policy.temperature,
            "rules": [{"action": rule.action, "at_least": rule.at_least} for rule in policy.rules],
        },
        "limits": vars(limits) | {"batch_size": options.batch_size, "batch_wait_ms": options.batch_wait_ms},
    }
