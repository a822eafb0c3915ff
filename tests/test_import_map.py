"""The rooms import in one direction, and heavy or foreign libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "figleaf"
SMALL = {"errors", "files", "progress"}  # modules that every room may use
MAY_IMPORT = {
    "data": set(),
    "vgg": {"data"},
    "skin": {"vgg", "data"},
    "evaluate": {"skin", "vgg", "data"},
    "tracking": set(),
    "rules": set(),
    "settings": {"rules"},
    "command_settings": {"rules", "settings"},
    "overrides": {"settings"},
    "architecture": {"settings"},
    "config": {"rules", "settings", "command_settings", "overrides", "architecture"},
    "train": {"export", "explain", "evaluate", "skin", "vgg", "data", "tracking", "config"},
    "export": {"evaluate", "vgg", "data"},
    "explain": {"evaluate", "skin", "vgg", "data"},
    "serve": {"explain", "export", "evaluate", "vgg", "data"},
    "study": {"train", "evaluate", "skin", "vgg", "data", "tracking", "config", "overrides", "rules"},
    "commands": {
        *("study", "train", "serve", "export", "explain", "evaluate", "skin", "vgg", "data"),
        *("tracking", "config", "overrides", "cli"),
    },
    "cli": {"commands"},
}
ONLY_IN = {
    # Besides the tracker's room: what MLflow itself runs when it serves a registered model, copied into each version.
    "mlflow": {"tracking", "train/warm.py", "serve/mlflow_model"},
    "hydra": {"config.py", "overrides.py"},
    "omegaconf": {"config.py"},
    "pytorch_lightning": {"train"},
    "albumentations": {"data/augment.py"},
    "optuna": {"study"},
    "submitit": {"study/cluster"},
    "torch_pruning": {"vgg/channel_pruning.py"},
    "fastapi": {"serve/http"},
    "uvicorn": {"serve/http"},
    "python_multipart": {"serve/http"},
    "prometheus_client": {"serve/http"},
    "ray": {"serve/ray_predict.py"},
}


def imports(file: Path) -> set[str]:
    """Dotted names of everything that `file` imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_import_downwards_only(file: Path) -> None:
    own = room(file)
    if own == "__init__":
        return
    used = {name.split(".")[1] for name in imports(file) if name.startswith("figleaf.")} - {own, "__version__"} - SMALL
    assert used <= MAY_IMPORT.get(own, set()), f"{own} must not know {used - MAY_IMPORT.get(own, set())}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stays_in_its_room(library: str) -> None:
    users = {str(f.relative_to(PACKAGE)) for f in FILES if any(n.split(".")[0] == library for n in imports(f))}
    strays = {user for user in users if not {user, *map(str, Path(user).parents)} & ONLY_IN[library]}
    assert users, f"nobody imports {library}: take it off this list"
    assert not strays


def test_nobody_imports_the_other_lightning() -> None:
    # `lightning.pytorch` holds its own copy of every class; mixing the two gives TypeErrors far away.
    assert not [f for f in FILES if any(name.split(".")[0] == "lightning" for name in imports(f))]


def test_no_room_says_nothing() -> None:
    assert not {"utils", "util", "helpers", "common", "misc", "base"} & {
        part.removesuffix(".py") for file in FILES for part in file.relative_to(PACKAGE).parts
    }
