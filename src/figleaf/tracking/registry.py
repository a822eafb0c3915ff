"""The model registry of the tracker: named models, their versions, and which of these is the champion.

A version is a folder that MLflow serves (see `model_folder`) and the tags that say what it is: the hash of its exported
file, the run that trained it, and what came of every attempt to promote it.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from figleaf.errors import FigleafError
from figleaf.files import explained, sha256_file
from figleaf.tracking.store import Store, first_line

CHAMPION = "champion"
SCHEME = "models:/"
FILE_TAG, SHA256_TAG, RUN_TAG = "figleaf.file", "figleaf.sha256", "figleaf.run_id"
_PROJECT_TAG = "figleaf.project"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_FILE = re.compile(r"[\w-][\w.-]*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PER_PAGE = 1000


@dataclass(frozen=True)
class Version:
    """A version of a registered model; `number` counts from 1, `aliases` name it, `run_id` is the run's here, or ""."""

    name: str
    number: int
    run_id: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    description: str
    created_ms: int

    @property
    def uri(self) -> str:
        """What MLflow and `figleaf predict --model` call it."""
        return f"{SCHEME}{self.name}/{self.number}"


def require_name(name: str) -> None:
    """Raises `FigleafError` for a name that cannot stand in an address such as models:/NAME@champion."""
    if not _NAME.fullmatch(name):
        raise FigleafError(f"name={name}: expected letters, digits, '.', '_' and '-', a letter or digit first")


def versions(store: Store, name: str | None = None) -> list[Version]:
    """Every version of the project's registered models, by name, the latest first; only those of `name` when given.

    Raises `FigleafError` when the registry has no such model of the project.
    """
    found: list[Version] = []
    with store.explained():
        names = _names(store)
        if name is not None and name not in names:
            raise FigleafError(f"{name}: no such registered model; there are: {', '.join(names) or 'none yet'}")
        for model in names if name is None else [name]:
            aliases = store.client.get_registered_model(model).aliases
            page = store.client.search_model_versions(f"name = '{model}'", max_results=_PER_PAGE)
            of_model = [_version(one, aliases) for one in page]
            found += sorted(of_model, key=lambda version: -version.number)
    return found


def champion(store: Store, name: str) -> Version | None:
    """The version with the alias champion; None when there is none."""
    return next((version for version in versions(store, name) if CHAMPION in version.aliases), None)


def find_version(store: Store, reference: str) -> Version:
    """The version that NAME (the latest), NAME@ALIAS, NAME@NUMBER or NAME/NUMBER names, with or without models:/.

    Raises `FigleafError` that says what there is.
    """
    name, separator, which = re.fullmatch(r"([^@/]*)([@/]?)(.*)", reference.removeprefix(SCHEME), re.DOTALL).groups()  # type: ignore[union-attr]  # it fits everything
    require_name(name)
    found = versions(store, name)
    if not separator and not reference.startswith(SCHEME):
        return found[0]
    fitting = [version for version in found if which in (str(version.number), *version.aliases)]
    if not which:
        raise FigleafError(f"{reference}: expected a version, such as {SCHEME}{name}@champion or {found[0].uri}")
    if not fitting:
        known = [str(version.number) + "".join(f"@{alias}" for alias in version.aliases) for version in found]
        raise FigleafError(f"{reference}: no such version of {name}; it has {', '.join(reversed(known))}")
    return fitting[0]


def add_version(
    store: Store, name: str, folder: Path, *, run_id: str | None, tags: Mapping[str, str], description: str
) -> Version:
    """Add the model in `folder`, as MLflow serves it, as the next version of `name`, which is made when missing.

    `run_id` is that of its run in this tracker, None where it is not there. Raises `FigleafError` for a name that is
    not allowed or belongs to a model that is not of the project, and when the tracker does not take it.
    """
    _require_ours(store, name)
    client = store.client
    try:
        experiment = store.experiment("figleaf") if run_id is None else str(client.get_run(run_id).info.experiment_id)
        model = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=dict(tags))
        try:
            client.log_model_artifacts(model.model_id, str(folder))
            client.finalize_logged_model(model.model_id, "READY")
            made = client.create_model_version(
                name,
                model.artifact_location,
                run_id,
                dict(tags),
                description=description,
                # A server wants to know whose files these are. A database without a run would ask MLflow's global
                # tracker for the model, which is another one.
                model_id=model.model_id if run_id is not None or store.artifact_root is None else None,
            )
        except BaseException:
            client.finalize_logged_model(model.model_id, "FAILED")
            raise
    except (MlflowException, OSError) as error:
        raise FigleafError(f"{name}: the tracker does not take this model: {first_line(error)}") from error
    return _version(made, {})


def note(store: Store, version: Version, tags: Mapping[str, str], line: str) -> None:
    """Set tags of the version, and add a line to its description, which keeps what was said before."""
    with store.explained():
        for key, value in tags.items():
            store.client.set_model_version_tag(version.name, str(version.number), key, value)
        described = store.client.get_model_version(version.name, str(version.number)).description or ""
        store.client.update_model_version(version.name, str(version.number), f"{described.rstrip()}\n- {line}\n")


def make_champion(store: Store, version: Version, instead_of: Version | None) -> None:
    """Give the alias champion to `version`.

    Raises `FigleafError` when another than `instead_of` has it by now: what was decided was decided against that one.
    """
    present = champion(store, version.name)
    if (present and present.number) != (instead_of and instead_of.number):
        raise FigleafError(
            f"{version.name}: version {present.number if present else 'none'} became champion meanwhile; promote again"
        )
    with store.explained():
        store.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))


def exported_file(store: Store, version: Version) -> Path:
    """A local path of the exported file that the version answers with; what lies elsewhere is downloaded to the home.

    The code in the version is not run. Raises `FigleafError` when the version is not of figleaf, or its file not the
    one that was registered.
    """
    file, digest = version.tags.get(FILE_TAG, ""), version.tags.get(SHA256_TAG, "")
    if not _FILE.fullmatch(file) or not _DIGEST.fullmatch(digest):
        raise FigleafError(
            f"{version.uri}: not registered by `figleaf registry add`, so there is no file to score with"
        )
    path = _artifact(store, version, f"artifacts/{file}", digest)
    if not path.is_file() or sha256_file(path) != digest:
        raise FigleafError(f"{version.uri}: {path} is not the file that was registered; add the model again")
    return path


def _artifact(store: Store, version: Version, name: str, digest: str) -> Path:
    """Where the artifact `name` (a POSIX path) of the version is, on this machine or brought to it once."""
    from mlflow.artifacts import download_artifacts

    with store.explained():
        root = store.client.get_model_version_download_uri(version.name, str(version.number))
        if urlsplit(root).scheme == "file":
            return Path(url2pathname(urlsplit(root).path)) / name
        target = store.home / "downloads" / "registry" / digest  # numbers start again in another tracker
        place = target / Path(name).name
        if not place.is_file():
            with explained(target):
                target.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(prefix=".download-", dir=target) as folder:
                    found = download_artifacts(f"{root}/{name}", dst_path=folder, tracking_uri=store.uri)
                    shutil.move(found, place)
        return place


def _require_ours(store: Store, name: str) -> None:
    """Make the registered model where there is none; refuse one that somebody else made."""
    require_name(name)
    with store.explained():
        page = store.client.search_registered_models(f"name = '{name}'")
        if not page:
            store.client.create_registered_model(name, tags={_PROJECT_TAG: "1"})
        elif _PROJECT_TAG not in page[0].tags:
            raise FigleafError(f"name={name}: the registry holds a model of that name which is not figleaf's")


def _names(store: Store) -> list[str]:
    found: list[str] = []
    token: str | None = None
    while True:
        page = store.client.search_registered_models(
            f"tags.`{_PROJECT_TAG}` = '1'", max_results=_PER_PAGE, page_token=token
        )
        found += [model.name for model in page]
        token = page.token
        if not token:
            return sorted(found)


def _version(found: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = int(found.version)
    own: Sequence[str] = sorted(alias for alias, version in aliases.items() if int(version) == number)
    return Version(
        name=found.name,
        number=number,
        run_id=found.run_id or "",
        aliases=tuple(own),
        tags=dict(found.tags),
        description=found.description or "",
        created_ms=int(found.creation_timestamp or 0),
    )
