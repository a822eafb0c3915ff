"""Claims: the page classifies a picture with the small network in less than 50 ms (`ms_per_image`), climbs a filter in
less than 2 s (`seconds_per_filter`, the slowest of five layers), and weighs less than 700 kB compressed without its
model (`compressed_kb`).

In headless Chromium, on the wasm backend, one thread: medians over pictures, after one to warm up, of what the page
itself measures, from the squashed bytes to the answer; `open_s` is from the request to the sealed page, from a server
on this machine. The same is measured of a full VGG16 at 224 px with a gap head, one filter of the third block. Random
weights: the time does not depend on what they are. Compressed: gzip, as servers send it; the gallery is left out, which
depends on how many filters are asked for. The last line is one JSON object.
"""

import argparse
import gzip
import http.server
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from figleaf.config import home, web_dir
from figleaf.data.scenes import render
from figleaf.explain.layers import shown_layers
from figleaf.export.facts import ModelFacts
from figleaf.serve.engine import engine_files
from figleaf.serve.page import Built, Gallery, build_page
from figleaf.vgg.network import VGG
from side_by_side import report

if TYPE_CHECKING:
    from playwright.sync_api import Page

FACTS = ModelFacts("page", "", ("covered", "exposed"), ("exposed",), data_name="scenes", data_hash="", threshold=0.5)
SMALL = {"width": 0.125, "head": "gap", "input_size": 64}
FULL = {"width": 1.0, "head": "gap", "input_size": 224, "batch_norm": False}
PATIENCE_MS = 300_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=15, help="of the small network (default: %(default)s)")
    parser.add_argument(
        "--full-pictures", type=int, default=3, help="of the full VGG16; 0: none (default: %(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = measured(Path(folder) / "small", SMALL, options.pictures)
        full = measured(Path(folder) / "full", FULL, options.full_pictures) if options.full_pictures else None
    report({"benchmark": "page", **small, "full_vgg16": full}, packages=("figleaf", "torch", "playwright"))


def measured(out: Path, network: dict[str, Any], count: int) -> dict[str, Any]:
    """What the page of a network takes, in bytes and in Chromium's time."""
    torch.manual_seed(0)
    net = VGG(**network).eval()
    engine = engine_files(web_dir(), home() / "web")
    built = build_page(net, FACTS, out=out, web=web_dir(), engine=engine, gallery=Gallery([], "classic", 1))
    pictures = [out.parent / f"{index}.png" for index in range(count + 1)]
    for index, path in enumerate(pictures):
        Image.fromarray(render(0, index, 301).rgb_u8).save(path)
    layers = shown_layers(net) if net.width < 1 else ["block3_conv2"]
    with served(out) as address, opened(address) as (page, open_s):
        ms = [_classified(page, path) for path in pictures][1:]
        seconds = [_climbed(page, layer) for layer in layers]
    return {
        "ms_per_image": round(statistics.median(ms), 1),
        "seconds_per_filter": max(seconds),
        "open_s": round(open_s, 2),
        "compressed_kb": round(_compressed(built) / 1000),
        "model_mb": round(sum(size for name, size in built.files.items() if name.startswith("model/")) / 1e6, 2),
        "single_mb": round(built.files["single.html"] / 1e6, 2),
        "network": network,
    }


def _compressed(built: Built) -> int:
    """Bytes that a server sends for the page without model and gallery."""
    left_out = ("model/", "filters/", "single.html")
    files = [built.out / name for name in built.files if not name.startswith(left_out)]
    return sum(len(gzip.compress(path.read_bytes())) for path in files)


def _classified(page: "Page", picture: Path) -> float:
    page.set_input_files("#files", str(picture))
    page.wait_for_selector(f"#name:text-is('{picture.name}')")
    page.wait_for_selector("#channels canvas")
    return float(page.locator("#timing").get_attribute("data-ms") or "nan")


def _climbed(page: "Page", layer: str) -> float:
    page.get_by_role("tablist", name="Layers of the gallery").get_by_role("tab", name=layer).click()
    page.get_by_role("button", name="Maximise").click()
    words = page.wait_for_selector(f"#wish-words:text-matches('^Filter 0 of {layer}:')").inner_text()
    return float(words.rsplit("in ", 1)[1].removesuffix(" s."))


@contextmanager
def opened(address: str) -> "Iterator[tuple[Page, float]]":
    """The sealed page in a browser of its own, and the seconds it took."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless=new", "--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached")
        yield page, time.perf_counter() - start
        browser.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form: str, *given: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


if __name__ == "__main__":
    main()
