"""A model as MLflow serves it: a folder with code, an exported file and a signature, and no pickle anywhere."""

import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from figleaf.tracking.store import quiet_environment

SERVED_BY = ("numpy", "pillow")  # what every served model needs, besides the runtime of its file


def write_model_folder(
    folder: Path,
    *,
    entry: Path,
    package: Path,
    files: Mapping[str, Path],
    column: str,
    answers: Mapping[str, str],
    example: bytes,
    runtime: Sequence[str],
    facts: Mapping[str, Any],
) -> Path:
    """Write the new `folder` and give it.

    `entry` is the code that MLflow runs, `package` the folder of modules that it imports, and `files` what it finds in
    its context by their names. A request is a table whose `column` holds base64 or bytes; its `answers` are columns
    with their types in MLflow's words, each of which may be empty. `example` is the content of one picture. `runtime`
    names the packages that are needed besides numpy and pillow; they are asked for in the versions of this machine.
    `facts` are plain values that stand in the folder's MLmodel file.
    """
    quiet_environment()
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types.schema import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", column)]),
        outputs=Schema([ColSpec(kind, name, required=False) for name, kind in answers.items()]),
    )
    with _importable(package):
        save_model(
            folder,
            python_model=str(entry),
            artifacts={name: str(path) for name, path in files.items()},
            code_paths=[str(package)],
            signature=signature,
            input_example=pd.DataFrame({column: [base64.b64encode(example).decode("ascii")]}),
            # Named here, since MLflow would find out by running the model in another process.
            pip_requirements=[f"{name}=={version(name)}" for name in (*SERVED_BY, *runtime)],
            metadata=dict(facts),
        )
    _forget_this_machine(folder)
    return folder


def _forget_this_machine(folder: Path) -> None:
    """MLflow notes where the code and the files came from; of the code it needs the name, of the files nothing."""
    from mlflow.models import Model

    written = Model.load(str(folder))
    flavor = written.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for file in flavor["artifacts"].values():
        file["uri"] = file["path"]
    written.save(str(folder / "MLmodel"))


@contextmanager
def _importable(package: Path) -> Iterator[None]:
    """MLflow runs the code once while it saves it: its modules can be found meanwhile, and are forgotten afterwards."""
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]
