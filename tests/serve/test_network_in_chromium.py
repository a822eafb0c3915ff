"""The page's own module in a browser gives the checkpoint's answers, from the picture's bytes on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_page import CLASSES, served

from browser import Visit
from figleaf.config import web_dir
from figleaf.data.decode import RESIZE_RULE
from figleaf.data.scenes import render
from figleaf.explain.cam import as_images
from figleaf.export.tfjs import write_tfjs
from small_vgg import network

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FACTS = {"classes": CLASSES, "unsafe": CLASSES[1:], "threshold": 0.5, "resize_rule": RESIZE_RULE, "input_size": 64}
# Plain, without the page's policy and its decoding: the engine's builds and the module are those that the page has.
PAGE = """<!doctype html><meta charset="utf-8"><title>A network</title>
<script src="engine/tf.es2017.min.js"></script><script src="engine/tf-backend-wasm.es2017.min.js"></script>
"""
ANSWERS = """async (count) => {
  tf.wasm.setWasmPaths("engine/", true);
  if (!(await tf.setBackend("wasm"))) throw new Error("no wasm");
  const { openNetwork } = await import(new URL("network.js", location.href));
  const bytes = async (name) => (await fetch(name)).arrayBuffer();
  const all = new Uint8ClampedArray(await bytes("pictures"));
  const found = {};
  for (const dtype of ["float32", "float16"]) {
    const network = await openNetwork(tf, (name) => bytes(`${dtype}/${name}`));
    const each = all.length / count;
    found[dtype] = [];
    for (let at = 0; at < all.length; at += each) {
      found[dtype].push([...(await network.classify(all.slice(at, at + each))).probabilities]);
    }
    network.dispose();
  }
  return found;
}"""


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("head", ["gap", "fc"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_32_images_answer_as_in_torch(
    depth: int, head: str, batch_norm: bool, engine: dict[str, Path], visit: Visit, tmp_path: Path
) -> None:
    net = network(depth=depth, head=head, batch_norm=batch_norm)
    rgb_u8 = np.stack([render(2, number, 64).rgb_u8 for number in range(32)])
    with torch.no_grad():
        last = net.layers["predictions"].get_parameter("weight")
        # Logits as far apart as those of a trained network: what float16 loses grows with them.
        last.copy_(0.2 * torch.randn(last.shape, generator=torch.Generator().manual_seed(1)))
        expected = torch.softmax(net(as_images(net, rgb_u8)).double(), dim=1).numpy()
    assert np.ptp(expected[:, 1]) > 1e-3

    (tmp_path / "engine").mkdir()
    for name, source in engine.items():
        shutil.copy(source, tmp_path / "engine" / name)
    shutil.copy(web_dir() / "lib" / "network.js", tmp_path)
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "pictures").write_bytes(rgb_u8.tobytes())
    write_tfjs(net, tmp_path / "float32", FACTS, "float32")
    write_tfjs(net, tmp_path / "float16", FACTS, "float16")
    with served(tmp_path) as (address, _):
        visit.page.goto(f"{address}/index.html")
        found = visit.page.evaluate(ANSWERS, len(rgb_u8))

    assert np.abs(np.array(found["float32"]) - expected).max() < 1e-5
    assert np.abs(np.array(found["float16"]) - expected).max() < 1e-3
    assert not visit.errors
