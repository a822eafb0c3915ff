"""Claim: `figleaf serve` answers 64 clients at once for two minutes, one request in ten of them hostile, without any
error of its own (`unexpected_5xx`), and micro-batches cost less than scoring one picture at a time (`ratio_cpu`).

The real command is started on a free port of this machine, with a VGG16-BN of an eighth of the width at 64 px,
untrained: what it answers does not matter here. 64 clients send one picture a request, each the next when the last is
answered; every tenth is, in turn: no image, a bomb of 3.6 billion pixels, a picture cut off, 50 MB (said so in its
headers, or not), a wrong field. `by_status` counts the answers, `wrong_status` those whose status is not the one that
this request should have. 503 is overload, which is stated; any other of 500 and up is unexpected. `p50_ms` and `p95_ms`
are of the good requests, with the clients on the same cores. `rss_start_mb` is the server's memory after the warm-up,
`rss_end_mb` that at the end, `rss_peak_mb` its peak.

`ratio`: requests a second with the default micro-batches over those with --batch-size 1, in turns, medians of
`--rounds`. The pictures of this part are of `--side` px, like the thumbnails that a site makes, so that decoding does
not hide the scoring. `ratio_cpu` is that of requests a second of the server's processor time: what else runs on the
cores changes it little, while on a busy machine the clock favours whoever has more threads waiting for a turn.
`ratio_wide` and `ratio_wide_cpu` are of a network that costs more than all else, a VGG16-BN of the full width with an
fc head, `ratio_photos` and `ratio_photos_cpu` of whole photos. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle
from pathlib import Path

import torch
from PIL import Image

from figleaf.data.decode import RESIZE_RULE
from figleaf.export.onnx_file import write_onnx
from figleaf.vgg.network import VGG
from side_by_side import photos, report

CLIENTS = 64
WARM_UP_S = 10.0
SETTLE_S = 2.0  # after a load, so that memory is what stays and not what was just being sent
_BOUNDARY = "figleaf-benchmark"
_PIECE = 1 << 18


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of the mixed load (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is measured (default: %(default)s)")
    parser.add_argument("--slice", type=float, default=4, help="seconds of a side in a round (default: %(default)s)")
    parser.add_argument("--side", type=int, default=96, help="of the thumbnails, in pixels (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=200, help="different pictures (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found, origin = photos(folder, options.pictures)
        whole = [path.read_bytes() for path in found]
        small = [_thumbnail(path, options.side) for path in found]
        narrow = _model(folder / "narrow.onnx", width=0.125, head="gap")
        wide = _model(folder / "wide.onnx", width=1.0, head="fc")
        values = _mixed(narrow, whole, options.seconds)
        ratios: dict[str, float] = {}
        for key, model, pictures in (("", narrow, small), ("_wide", wide, small), ("_photos", narrow, whole)):
            clock, cpu = _ratios(model, pictures, options.rounds, options.slice)
            ratios |= {f"ratio{key}": clock, f"ratio{key}_cpu": cpu}
    packages = ["fastapi", "uvicorn", "python-multipart", "onnxruntime", "pillow"]
    report({**ratios, **values, "pictures": origin}, packages)


def _model(path: Path, *, width: float, head: str) -> Path:
    torch.manual_seed(0)
    net = VGG(depth=16, batch_norm=True, width=width, head=head, classes=2, input_size=64).eval()  # type: ignore[arg-type]
    return write_onnx(
        net, path, {"classes": ["sfw", "nsfw"], "unsafe": ["nsfw"], "resize_rule": RESIZE_RULE, "threshold": 0.5}
    )


def _thumbnail(path: Path, side: int) -> bytes:
    buffer = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").resize((side, side)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@dataclass(frozen=True)
class Request:
    """What is sent, as it goes over the wire; then `zeros` bytes more; and the `status` that it should get."""

    head: bytes
    status: int = 200
    zeros: int = 0
    is_chunked: bool = False


@dataclass
class Seen:
    """What came of the requests: how many of each status, how many were wrong, seconds of the good ones."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)


def _request(content: bytes, *, name: str = "images", status: int = 200) -> Request:
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'.encode()
    body = part + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Request(_head(f"Content-Length: {len(body)}") + body, status)


def _head(length: str) -> bytes:
    kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"
    return f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n{length}\r\n\r\n".encode()


def _hostile(whole: bytes) -> list[Request]:
    bomb = b"GIF89a\x60\xea\x60\xea\0\0\0,\0\0\0\0\x60\xea\x60\xea\0\x02\0;"  # 60,000 x 60,000
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'.encode()
    size = 50_000_000
    return [
        _request(b"I am no picture.\n" * 100, status=415),
        _request(bomb, status=413),
        _request(whole[: len(whole) // 2], status=422),
        Request(_head(f"Content-Length: {size + len(part)}") + part, 413, size),
        _request(whole, name="file", status=422),
        Request(_head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(part), part), 413, size, True),
    ]


@contextmanager
def _server(model: Path, *options: str) -> Iterator[tuple[int, int]]:
    """The command on a free port: the port, and the process."""
    command = [sys.executable, "-m", "figleaf.cli", "serve", f"model={model}", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "http://" in line), "")
        if not line:
            raise SystemExit("the server did not start")
        yield int(line.partition("http://127.0.0.1:")[2].partition(";")[0].split(",")[0]), process.pid
        if process.poll() is not None:
            raise SystemExit(f"the server ended by itself: {process.returncode}")
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(60):
            raise SystemExit(f"the server ended with {process.returncode}")


def _mixed(model: Path, pictures: Sequence[bytes], seconds: float) -> dict[str, object]:
    good = [_request(content) for content in pictures]
    with _server(model) as (port, process):
        asyncio.run(_load(port, good, _hostile(pictures[0]), min(WARM_UP_S, seconds)))
        time.sleep(SETTLE_S)
        start = _memory_mb(process, "VmRSS")
        begun = time.perf_counter()
        seen = asyncio.run(_load(port, good, _hostile(pictures[0]), seconds))
        took = time.perf_counter() - begun
        time.sleep(SETTLE_S)
        end, peak = _memory_mb(process, "VmRSS"), _memory_mb(process, "VmHWM")
    spread = statistics.quantiles(seen.seconds, n=20)
    return {
        "requests": seen.statuses.total(),
        "by_status": {str(status): count for status, count in sorted(seen.statuses.items())},
        "unexpected_5xx": sum(count for status, count in seen.statuses.items() if status >= 500 and status != 503),
        "wrong_status": seen.wrong,
        "requests_per_s": seen.statuses.total() / took,
        "p50_ms": 1e3 * statistics.median(seen.seconds),
        "p95_ms": 1e3 * spread[18],
        "rss_start_mb": start,
        "rss_end_mb": end,
        "rss_peak_mb": peak,
        "clients": CLIENTS,
        "seconds": took,
    }


def _ratios(model: Path, pictures: Sequence[bytes], rounds: int, slice_s: float) -> tuple[float, float]:
    """Requests a second with micro-batches over those with one picture at a time: by the clock, and by the server's
    processor time.
    """
    good = [_request(content) for content in pictures]
    one = ("--batch-size", "1", "--batch-wait-ms", "0")
    with _server(model) as batched, _server(model, *one) as single:
        rates: dict[tuple[int, int], list[tuple[float, float]]] = {batched: [], single: []}
        for round_ in range(-1, rounds):
            for server in (batched, single) if round_ % 2 else (single, batched):
                start, cpu = time.perf_counter(), _cpu_s(server[1])
                seen = asyncio.run(_load(server[0], good, [], slice_s))
                if seen.wrong:
                    raise SystemExit(f"good requests were refused: {seen.statuses}")
                count = seen.statuses.total()
                if round_ >= 0:
                    rates[server].append((count / (time.perf_counter() - start), count / (_cpu_s(server[1]) - cpu)))
    print(json.dumps({"batched": rates[batched], "single": rates[single]}), file=sys.stderr)
    medians = {
        server: [statistics.median(rate[place] for rate in measured) for place in (0, 1)]
        for server, measured in rates.items()
    }
    clock, processor = (ours / theirs for ours, theirs in zip(medians[batched], medians[single], strict=True))
    return clock, processor


def _cpu_s(process: int) -> float:
    """Seconds of processor time that all its threads have had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(process: int, key: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) / 1e6 for line in lines if line.startswith(key))


async def _load(port: int, good: Sequence[Request], hostile: Sequence[Request], seconds: float) -> Seen:
    """`CLIENTS` clients for so long; every tenth request is a hostile one, where there are any."""
    seen = Seen()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, good, hostile, number, until, seen) for number in range(CLIENTS)))
    return seen


async def _client(
    port: int, good: Sequence[Request], hostile: Sequence[Request], number: int, until: float, seen: Seen
) -> None:
    offset = number * len(good) // CLIENTS
    fine, bad = cycle([*good[offset:], *good[:offset]]), cycle([*hostile[number % 6 :], *hostile[: number % 6]])
    reader: asyncio.StreamReader | None = None
    count = number  # so that not all are hostile at once
    while time.perf_counter() < until:
        count += 1
        request = next(bad) if hostile and count % 10 == 0 else next(fine)
        if reader is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = time.perf_counter()
        sending = asyncio.create_task(_send(writer, request))
        status = await _answer(reader)
        if request.zeros:  # as curl does: who is refused sends no more
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
            reader = None
        else:
            await sending
            if status == 200:
                seen.seconds.append(time.perf_counter() - start)
        seen.statuses[status] += 1
        seen.wrong += status not in (request.status, 503)
    if reader is not None:
        writer.close()


async def _send(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(request.head)
    piece = bytes(_PIECE)
    for _ in range(request.zeros // _PIECE + 1 if request.zeros else 0):
        writer.write(b"%x\r\n%s\r\n" % (_PIECE, piece) if request.is_chunked else piece)
        await writer.drain()
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, whose body is read."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return int(head.split()[1])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
