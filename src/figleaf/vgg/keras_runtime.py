"""Keras on torch, for its own files: an extra, imported only when one is written or read."""

import os
from typing import Any

from figleaf.errors import FigleafError, RuntimeMissingError


def load_keras() -> Any:
    """The library with torch as its backend. Raises `FigleafError` where it is missing, or runs on another one."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError as error:
        raise RuntimeMissingError(f".keras files need Keras ({error}): pip install 'figleaf[keras]'") from error
    if keras.backend.backend() != "torch":
        raise FigleafError(
            f"Keras runs on {keras.backend.backend()} here, by KERAS_BACKEND or ~/.keras/keras.json: set "
            "KERAS_BACKEND=torch, on which the answers were compared"
        )
    return keras
