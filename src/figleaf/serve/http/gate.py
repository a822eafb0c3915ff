"""What every request goes through: the token, the count, the clock, and an answer whatever happens."""

import asyncio
import logging
import time
import traceback
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from figleaf.serve.http.answers import refusal
from figleaf.serve.http.limits import RefusedError, overloaded
from figleaf.serve.http.metrics import Metrics
from figleaf.serve.http.token import Token

OPEN = ("/ping", "/health", "/health/live", "/health/ready")  # they say nothing, and probes have no token
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_log = logging.getLogger(__name__)


class Gate:
    """ASGI middleware around everything else. `routes` are the paths that are counted by name, others as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: Token | None, routes: Collection[str]) -> None:
        self._app, self._metrics, self._token, self._routes = app, metrics, token, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; never raises for one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        response: Response | None = None
        try:
            if not self._is_local(scope):
                response = refusal(RefusedError(403, "without a token only this machine is answered, by its own names"))
            elif self._is_known(scope):
                await self._app(scope, receive, watched)
            else:
                response = refusal(RefusedError(401, "expected the header Authorization: Bearer TOKEN"))
                response.headers["WWW-Authenticate"] = "Bearer"
        except asyncio.CancelledError:  # it has taken longer than a server that stops waits
            response = refusal(overloaded("the server stops"))
        except Exception as error:
            # What an error says may quote what was sent, so only its kind and place are written down.
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("unexpected %s at %s:%s", type(error).__name__, place.filename, place.lineno)
            response = refusal(RefusedError(500, "an error in the server; see its log"))
        if response is not None and not status:
            await response(scope, receive, watched)
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _is_local(self, scope: Scope) -> bool:
        """Without a token, whether the request comes from no web page of elsewhere.

        A browser on this machine reaches the server for any page that it shows: it then names the page (`Origin`), or,
        where the page's own name leads here (DNS rebinding), that name (`Host`).
        """
        if self._token is not None or scope["path"] in OPEN:
            return True
        named = [(name, value.decode("latin-1")) for name, value in scope["headers"] if name in (b"host", b"origin")]
        return all(is_loopback(value if name == b"origin" else f"//{value}") for name, value in named)

    def _is_known(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in OPEN:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and self._token.is_in(given[0].decode("latin-1"))


def is_loopback(address: str) -> bool:
    """Whether a URL, or its part from // on, names this machine by itself: localhost or a loopback address."""
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
