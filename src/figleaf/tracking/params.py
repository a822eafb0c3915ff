"""Configurations as the flat names and texts that MLflow calls parameters, and names it takes for metrics."""

import json
import re
from collections.abc import Mapping

_LONGEST_VALUE = 6000  # MLflow's limit, beyond which it cuts in silence
_CUT_MARK = " ... (cut: see params.json)"


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Join nested keys with dots; texts stay as they are, everything else becomes JSON (`true`, `null`, `[1, 2]`).

    >>> flatten({"model": {"depth": 16, "head": "fc"}, "freeze": []})
    {'model.depth': '16', 'model.head': 'fc', 'freeze': '[]'}
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def cut(params: Mapping[str, str]) -> dict[str, str]:
    """Shorten values to MLflow's limit of 6,000 characters, visibly."""
    kept = _LONGEST_VALUE - len(_CUT_MARK)
    return {key: value if len(value) <= _LONGEST_VALUE else value[:kept] + _CUT_MARK for key, value in params.items()}


def metric_name(text: str) -> str:
    """`text` with the characters that MLflow refuses in a metric's name replaced."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
