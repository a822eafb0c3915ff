"""The registered model as MLflow knows one: loaded from its file, asked with a table, answering with a table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc import PythonModel

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.serve.mlflow_model.answering import IMAGE, answered

ARTIFACT = "model"  # what MLflow calls the exported file by

Load = Callable[[Path], tuple[Scorer, float | None]]


class Registered(PythonModel):  # type: ignore[misc]  # MLflow is not typed here
    """Answers with the scorer and the threshold that `load` gives for the exported file."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def load_context(self, context: Any) -> None:
        """Open the file; called by MLflow once."""
        self._scorer, self._threshold = self._load(Path(context.artifacts[ARTIFACT]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """A row of answers for each row of the column `image`, see `answered`."""
        if IMAGE not in model_input:
            raise FigleafError(f"no column {IMAGE!r} in the request; it has {', '.join(map(str, model_input))}")
        rows = answered(self._scorer, model_input[IMAGE].tolist(), self._threshold)
        # As objects: in a column of floats None becomes NaN, which JSON has not.
        return pd.DataFrame(rows, dtype=object, index=model_input.index)
