"""Connections that bring nothing: uvicorn waits for them for ever, and they would use up the file descriptors."""

import asyncio

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from figleaf.serve.http.answers import refusal
from figleaf.serve.http.limits import overloaded

CONNECTIONS = 512  # at once; a process may have 1024 file descriptors where nobody has said otherwise
SILENT_S = 10.0  # how long a request's headers may take, and what is left of a body whose request has been refused


class BoundedConnection(H11Protocol):
    """HTTP/1.1 on one connection, which is closed when no request is worked on for `SILENT_S`.

    Of more than `CONNECTIONS` the last to come are answered with 503.
    """

    _silent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app = _too_many
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop to wait when there is a request to be answered, and begin anew after it."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or self.transport.is_closing():
            self._stop_watching()
        elif self._silent is None:
            self._silent = self.loop.call_later(SILENT_S, self._close)

    def _stop_watching(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _close(self) -> None:
        self._silent = None
        self.transport.close()


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    response = refusal(overloaded(f"{CONNECTIONS} connections are open"))
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
