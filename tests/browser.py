"""Pages as a person sees them: fixtures for a headless Chromium that reaches this machine only.

`visit` gives a test a fresh browser window. It reaches nothing but 127.0.0.1, and a test whose page asks for anything
else fails. Playwright drives the Chromium of the system; without either, the tests that want one are skipped.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # Chromium itself asks for things, too, which no page has to do with: it finds no address but this one.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_OF_THE_PAGE = ("data", "blob", "about", "file")  # schemes that no other machine is asked by
_PATIENCE_MS = 90_000.0  # for a page of a server that has just started, on a busy machine


@dataclass
class Visit:
    """A browser window: its `page`; the addresses `beyond` this machine that it asked for; its scripts' `errors`."""

    page: "Page"
    beyond: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser for the tests of a module, not for all: while it is open, asyncio.run fails in its thread."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'figleaf[dev]'")
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium: `make setup-browser` installs it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS, timeout=_PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: "Browser") -> Iterator[Visit]:
    """A window without history, wide enough for tables; the test fails when its page asks for what is not here."""
    # What a service worker asks for would pass by the guard.
    context = chromium.new_context(viewport={"width": 2400, "height": 1400}, service_workers="block")
    context.set_default_timeout(_PATIENCE_MS)
    visit = Visit(context.new_page())

    def guard(route: "Route") -> None:
        address = urlsplit(route.request.url)
        if address.hostname == "127.0.0.1" or address.scheme in _OF_THE_PAGE:
            route.continue_()
        else:
            visit.beyond.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    yield visit
    context.close()
    assert not visit.beyond, "the page asked for what is not on this machine"
