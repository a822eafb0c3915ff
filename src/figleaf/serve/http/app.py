"""The server's routes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from figleaf import __version__
from figleaf.data.decode import quiet_pillow
from figleaf.serve.http.answers import Predictions, Refusal, json_response, predictions, refusal
from figleaf.serve.http.body import chunks
from figleaf.serve.http.form import FIELD, PictureForm, Sent
from figleaf.serve.http.gate import Gate
from figleaf.serve.http.limits import RefusedError
from figleaf.serve.http.metrics import CONTENT_TYPE
from figleaf.serve.http.payloads import COLUMN, pictures_in
from figleaf.serve.http.scoring import Scoring
from figleaf.serve.http.token import Token

# A JSON body is held as it came, as text, and as the pictures in it.
_JSON_WEIGHT = 3
_GONE = 499  # nobody sees it but the metrics; as nginx counts clients that leave
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "No such form or JSON"},
    401: {"model": Refusal, "description": "A token is asked for"},
    408: {"model": Refusal, "description": "The body did not arrive in time"},
    413: {"model": Refusal, "description": "Too many bytes, pictures or pixels"},
    415: {"model": Refusal, "description": "Another content type, or no picture"},
    422: {"model": Refusal, "description": "Another field, or a broken picture"},
    503: {"model": Refusal, "description": "Overloaded; Retry-After says when to try again"},
    504: {"model": Refusal, "description": "The pictures were not scored in time"},
}
_FORM = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
}
_JSON = {
    "type": "object",
    "example": {"dataframe_split": {"columns": [COLUMN], "data": [["<base64>"]]}},
    "description": f"dataframe_split, dataframe_records, instances or inputs, with base64 in the column {COLUMN}",
}


def _takes(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def build_app(scoring: Scoring, about: Mapping[str, Any], token: Token | None = None) -> ASGIApp:
    """The server as an ASGI application, which answers with what `scoring` gives; `about` is shown at `/about`.

    It starts `scoring` with its lifespan. With a `token`, all but probes must bring it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with quiet_pillow():
            async with scoring:
                yield

    # Without the pages of FastAPI: they load scripts from elsewhere.
    app = FastAPI(
        title="figleaf",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the address of a redirection would be the one that the client has named
    )
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)
    _add_scoring(app, scoring)
    _add_facts(app, scoring, about)
    return Gate(app, scoring.metrics, token, [getattr(route, "path", "") for route in app.routes])


def _add_scoring(app: FastAPI, scoring: Scoring) -> None:
    limits = scoring.limits

    @app.post(
        "/predict",
        responses={200: {"model": Predictions}, **_REFUSALS},
        openapi_extra=_takes("multipart/form-data", _FORM),
    )
    async def predict(request: Request) -> Response:
        """Scores for the pictures in a form's field `images`."""

        async def read() -> list[Sent]:
            form = PictureForm(request.headers.get("content-type", ""), limits)
            async for chunk in chunks(request, limits):
                form.feed(chunk)
                share.hold(form.held_bytes)
            return form.pictures()

        with scoring.held.share() as share:
            sent = await _arrived(scoring, read)
            return await _answered(scoring, sent, named=True)

    @app.post(
        "/invocations",
        responses={200: {"description": '{"predictions": [...]}'}, **_REFUSALS},
        openapi_extra=_takes("application/json", _JSON),
    )
    async def invocations(request: Request) -> Response:
        """Scores for base64 in a column `image`, as MLflow's scoring server takes it."""

        async def read() -> list[Sent]:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise RefusedError(415, "expected application/json")
            body = bytearray()
            async for chunk in chunks(request, limits):
                body += chunk
                share.hold(_JSON_WEIGHT * len(body))
            return await asyncio.get_running_loop().run_in_executor(scoring.decoders, pictures_in, body, limits)

        with scoring.held.share() as share:
            sent = await _arrived(scoring, read)
            return await _answered(scoring, sent, named=False)


def _add_facts(app: FastAPI, scoring: Scoring, about: Mapping[str, Any]) -> None:
    @app.get("/")
    @app.get("/about")
    async def tell() -> Response:
        """The model, its classes, threshold and hashes, the policy and the limits."""
        return json_response(about)

    @app.get("/health/live")
    async def live() -> Response:
        """Whether the server answers: 200."""
        return json_response({"live": True})

    @app.get("/health")
    @app.get("/health/ready")
    async def health() -> Response:
        """Whether pictures that are sent will be scored: 200, else 503."""
        ready = scoring.is_ready
        return json_response({"live": True, "ready": ready, "waiting": scoring.waiting}, 200 if ready else 503)

    @app.get("/ping")
    async def ping() -> Response:
        """As MLflow's scoring server answers: a line break, 200 when the model is there."""
        return Response("\n", 200 if scoring.is_ready else 404, media_type="application/json")

    @app.get("/version")
    async def version() -> Response:
        """The version of figleaf, in MLflow's manner."""
        return Response(__version__, media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(scoring.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _arrived(scoring: Scoring, read: Callable[[], Awaitable[list[Sent]]]) -> list[Sent]:
    """The pictures, once their body is there."""
    scoring.require_room()  # before anything is read for nothing
    try:
        async with asyncio.timeout(scoring.limits.seconds):
            return await read()
    except ClientDisconnect:
        raise RefusedError(_GONE, "the client has left") from None
    except TimeoutError:
        raise RefusedError(408, f"the body did not arrive in {scoring.limits.seconds:g} seconds") from None


async def _answered(scoring: Scoring, sent: list[Sent], *, named: bool) -> Response:
    try:
        async with asyncio.timeout(scoring.limits.seconds):
            return predictions(await scoring.outcomes(sent), named=named)
    except TimeoutError:
        raise RefusedError(504, f"the pictures were not scored in {scoring.limits.seconds:g} seconds") from None


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, RefusedError)
    return refusal(refused)


async def _failed(_: Request, error: Exception) -> Response:
    return refusal(RefusedError(500, "an error in the server; see its log"))  # the gate writes it down


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = refusal(RefusedError(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response
