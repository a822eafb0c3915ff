"""What the server answers: JSON that is harmless wherever it is shown, and its description for OpenAPI."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field

from figleaf.serve.http.limits import RefusedError
from figleaf.serve.http.scoring import Outcome


class Prediction(BaseModel):
    """What one picture got."""

    name: str = Field(description="what the sender calls the picture")
    score: float | None = Field(description="P(unsafe); null without a score")
    flagged: bool | None = Field(description="whether the score reaches the threshold, or the policy does not pass it")
    action: str | None = Field(default=None, description="block, blur, review or pass; only with a policy")
    label: str | None = Field(description="the class with the highest probability")
    probabilities: dict[str, float] | None = Field(description="P(class), by class")
    error: str | None = Field(description="why there is no score")
    status: int = Field(description="200 with a score; 413 too large, 415 no picture, 422 a broken one")


class Predictions(BaseModel):
    """One answer for each picture, in the order in which they were sent."""

    predictions: list[Prediction]


class Refusal(BaseModel):
    """Why a request got no score; `predictions` where it had pictures, and none of them could be scored."""

    error: str
    status: int
    predictions: list[Prediction] | None = None


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as JSON in ASCII, without a sign that HTML would take for its own."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":  # they stand in strings alone
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Response(text.encode("ascii"), status, headers, media_type="application/json")


def refusal(refused: RefusedError) -> Response:
    """Its status, and its reason as JSON."""
    headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
    return json_response({"error": refused.reason, "status": refused.status}, refused.status, headers)


def predictions(outcomes: Sequence[Outcome], *, named: bool) -> Response:
    """The answers: 200 when a picture has a score; else the pictures' status, or 422 where they differ."""
    rows = [_row(outcome, named=named) for outcome in outcomes]
    statuses = {outcome.status for outcome in outcomes}
    if 200 in statuses:
        return json_response({"predictions": rows})
    status = statuses.pop() if len(statuses) == 1 else 500 if 500 in statuses else 422
    first = outcomes[0].answer.error
    what = "the picture has no score" if len(rows) == 1 else f"none of {len(rows)} pictures has a score; the first"
    return json_response({"error": f"{what}: {first}", "status": status, "predictions": rows}, status)


def _row(outcome: Outcome, *, named: bool) -> dict[str, Any]:
    row = outcome.answer.row
    name = row.pop("path")
    return {**({"name": name} if named else {}), **row, "status": outcome.status}
