"""The browser of the tests shows what a person would see, and lets no page reach beyond this machine."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from browser import Visit

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><h1>before</h1><img src="http://pictures.example/a.png">
<script>document.querySelector("h1").textContent = "after"; throw new Error("broken")</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a page that shows a picture from elsewhere and ends in an error."""
    (tmp_path / "index.html").write_text(PAGE)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_scripts_run_and_what_is_elsewhere_is_named_and_never_reached(visit: Visit, site: str) -> None:
    visit.page.goto(site)
    visit.page.get_by_role("heading", name="after").wait_for()
    assert visit.beyond == ["http://pictures.example/a.png"]
    assert visit.errors == ["broken"]
    assert visit.page.locator("img").evaluate("image => image.naturalWidth") == 0
    visit.beyond.clear()  # else the fixture would fail this test, as it should any other
