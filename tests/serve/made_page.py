"""A page of a small network whose scores differ from picture to picture, built once for a module, and its server."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from figleaf.config import web_dir
from figleaf.data.decode import decode, resize
from figleaf.data.scenes import render
from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.predictions import Predictions, prob_unsafe
from figleaf.explain.filters import Recipe, maximise
from figleaf.export.facts import ModelFacts
from figleaf.serve.engine import engine_files
from figleaf.serve.page import Built, Gallery, build_page
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from small_vgg import network

CLASSES = ("covered", "<b>exposed")
FACTS = ModelFacts(
    "run of the <i>test",
    "0123456789abcdef",
    CLASSES,
    CLASSES[1:],
    data_name="skin-area proxy",
    data_hash="fedcba9876543210",
    threshold=0.625,
    metrics={
        "val/auroc": 0.75,
        **{"test/auroc": 0.8, "test/auroc_low": 0.75, "test/auroc_high": 0.85, "test/n": 1234, "test/f1": 0.5},
    },
)
LAYERS = ("block1_conv1", "block3_conv2")


def speaking(net: VGG) -> VGG:
    """`net` with a last layer that makes much of the differences between drawn scenes: logits of a spread of 2."""
    scenes = torch.from_numpy(np.stack([render(1, index, net.input_size).rgb_u8 for index in range(24)]))
    with torch.no_grad():
        features: list[torch.Tensor] = []
        last = net.layers["predictions"]
        hook = last.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        net(scenes.permute(0, 3, 1, 2))
        hook.remove()
        centred = features[0] - features[0].mean(0)
        axis = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        axis = axis / (centred @ axis).std()
        last.weight.copy_(torch.stack([-axis, axis]))
        last.bias.copy_(torch.stack([axis, -axis]) @ features[0].mean(0))
    return net


def val_predictions(scorer: TorchScorer, count: int = 40) -> Predictions:
    """What a network says of drawn scenes; every third counts as unsafe."""
    names = [f"{index}.png" for index in range(count)]
    samples = pd.DataFrame(
        {
            "sample_id": names,
            "content_sha256": names,
            "split": "val",
            "group": names,
            "slice": "all",
            "label": [CLASSES[index % 3 == 0] for index in range(count)],
        }
    )
    logits = scorer.logits(np.stack([render(2, index, scorer.input_size).rgb_u8 for index in range(count)]))
    facts = {"classes": CLASSES, "unsafe": CLASSES[1:], "data_name": "scenes", "data_hash": "c"}
    return Predictions.from_logits(samples, logits, **facts)


def gallery(net: VGG) -> Gallery:
    recipe = Recipe("pixels", 2, 1.0)
    return Gallery([maximise(net, layer, range(7), recipe, size=24) for layer in LAYERS], "classic", 2)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """TensorFlow.js; tests that need it are skipped where npm cannot fetch it."""
    try:
        return engine_files(web_dir(), tmp_path_factory.mktemp("engine"))
    except FigleafError as error:
        pytest.skip(str(error))


@dataclass
class Site:
    """A built page, its network, the address of its server, and the requests that the server has seen."""

    built: Built
    scorer: TorchScorer
    address: str
    requests: list[str] = field(default_factory=list)

    @property
    def single(self) -> str:
        """The address of the page as one file."""
        assert self.built.single is not None
        return self.built.single.as_uri()

    def score(self, picture: Path) -> float:
        """What the checkpoint says of a file, by the project's own decoder."""
        rgb_u8 = resize(decode(picture), self.scorer.input_size)
        return float(prob_unsafe(self.scorer.logits(rgb_u8[None]), self.scorer.classes, self.scorer.unsafe)[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, engine: dict[str, Path]) -> Iterator[Site]:
    """The page of a small network with batch norms and a gap head."""
    with made_site(tmp_path_factory.mktemp("page"), engine) as made:
        yield made


@contextmanager
def made_site(folder: Path, engine: dict[str, Path], policy: Policy | None = None) -> Iterator[Site]:
    """A page in `folder`, built and served."""
    net = speaking(network())
    scorer = TorchScorer(net, CLASSES, CLASSES[1:])
    out = folder / "si;te, one"  # a folder whose name a policy would split
    more: dict[str, Any] = {"engine": engine, "gallery": gallery(net), "val": val_predictions(scorer), "policy": policy}
    built = build_page(net, FACTS, out=out, web=web_dir(), **more)
    with served(out.parent) as (address, requests):
        yield Site(built, scorer, f"{address}/si%3Bte%2C%20one/", requests)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder on this machine, and the list of requests that grows there."""
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form: str, *given: Any) -> None:
            requests.append(form % given)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
