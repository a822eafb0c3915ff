"""Pictures out of the JSON that MLflow's scoring server takes: base64 in a column `image`.

The forms are those of https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ (Inference Server
Specification): `dataframe_split`, `dataframe_records`, `instances` and `inputs`.
"""

import base64
import binascii
import json
from typing import Any

from figleaf.serve.http.form import Sent, too_long
from figleaf.serve.http.limits import Limits, RefusedError

COLUMN = "image"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
# JSON values a picture may stand among. Base64 has none of the signs between values, so a body of pictures has few of
# them, and one that has many would take many times its length of memory when it is read.
_VALUES = 64
_SIGNS = b",[{"


def pictures_in(body: bytes | bytearray, limits: Limits) -> list[Sent]:
    """The pictures of a payload, in order, without names.

    Raises `RefusedError`: 400 for what is no JSON or none of the forms, 413 for too many pictures or values. What is no
    base64 text is a picture that is refused.
    """
    if sum(body.count(sign) for sign in _SIGNS) > _VALUES * (limits.pictures + 1):
        raise RefusedError(413, "more JSON values than pictures of a request can have")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RefusedError(400, f"no JSON: {why}") from None
    values = _values(found)
    if not values:
        raise RefusedError(400, f"no picture: the column {COLUMN} is empty")
    if len(values) > limits.pictures:
        raise RefusedError(413, f"more than {limits.pictures} pictures in a request")
    return [_sent(value, limits) for value in values]


def _values(found: Any) -> list[Any]:
    """The column of pictures."""
    forms = [form for form in FORMS if form in found] if isinstance(found, dict) else []
    if len(forms) != 1:
        raise RefusedError(400, f"expected a JSON object with one of {', '.join(FORMS)}")
    (form,) = forms
    content = found[form]
    if form == "dataframe_split":
        return _split(content)
    if form == "inputs" and isinstance(content, dict):
        column = content.get(COLUMN)
        return (
            [column] if isinstance(column, str) else _list(column, f"inputs.{COLUMN}: expected a list of base64 texts")
        )
    rows = _list(content, f"{form}: expected a list of objects with {COLUMN}")
    plain = form != "dataframe_records"  # the others may hold the bare values of a single column
    return [row.get(COLUMN) if isinstance(row, dict) else row if plain else None for row in rows]


def _split(content: Any) -> list[Any]:
    wrong = f"dataframe_split: expected columns, a list with {COLUMN}, and data, a list of rows of that length"
    if not isinstance(content, dict):
        raise RefusedError(400, wrong)
    columns, rows = _list(content.get("columns"), wrong), _list(content.get("data"), wrong)
    if COLUMN not in columns or any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise RefusedError(400, wrong)
    place = columns.index(COLUMN)
    return [row[place] for row in rows]


def _list(value: Any, wrong: str) -> list[Any]:
    if not isinstance(value, list):
        raise RefusedError(400, wrong)
    return value


def _sent(value: Any, limits: Limits) -> Sent:
    if not isinstance(value, str):
        return Sent("", refused=RefusedError(422, f"expected base64 text in {COLUMN}"))
    if len(value) // 4 * 3 > limits.picture_bytes + 2:
        return Sent("", refused=too_long(limits))
    try:
        content = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        hint = "; leave out what stands before the comma of a data: address" if value.startswith("data:") else ""
        return Sent("", refused=RefusedError(422, f"no base64{hint}"))
    return Sent("", content) if len(content) <= limits.picture_bytes else Sent("", refused=too_long(limits))
