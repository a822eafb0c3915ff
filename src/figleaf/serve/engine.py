"""TensorFlow.js for the page: three files of two npm packages, each known by its hash."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained, sha256_file

# Of @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm, the versions in web/package-lock.json. The builds for ES2017:
# the others evaluate text as code, which the page's policy refuses.
FILES = {
    "tfjs/dist/tf.es2017.min.js": "a1f9e32fd9b373cf394905050cf0c8c66238b34925846c065db00d2a34d1c040",
    "tfjs-backend-wasm/dist/tf-backend-wasm.es2017.min.js": (
        "bdd8c3c1fb0b37601bc2a122efa20b8d78e2936d104b03a44591be4188c63f65"
    ),
    "tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm": (
        "77ebb28a6d34f371dbbf2086b7f2de8994acd8ea5a3cf1fa24d2c26c840cac7b"
    ),
}
_LOCK = ("package.json", "package-lock.json")
_NPM_SECONDS = 600


def engine_files(web: Path, cache: Path) -> dict[str, Path]:
    """The files of the engine by their names in the page's folder `engine/`.

    They come from `web/node_modules` where they are there, else from `cache`, into which npm fetches them once.

    Raises `FigleafError` when npm is missing or fails, and for files that are not those pinned here.
    """
    for folder in (web, cache):
        if (folder / "node_modules").is_dir() and (found := _in(folder)):
            return found
    _install(web, cache)
    if found := _in(cache):
        return found
    raise FigleafError(f"{cache}: npm fetched packages without TensorFlow.js; give the command again")


def _in(folder: Path) -> dict[str, Path]:
    """The files in a folder's node_modules, empty when some are missing."""
    packages = folder / "node_modules" / "@tensorflow"
    if not all((packages / name).is_file() for name in FILES):
        return {}
    for name, digest in FILES.items():
        if sha256_file(packages / name) != digest:
            raise FigleafError(
                f"{packages / name}: not the file of the pinned version; delete {folder / 'node_modules'}, and npm "
                "fetches it again"
            )
    return {Path(name).name: packages / name for name in FILES}


def _install(web: Path, cache: Path) -> None:
    """Let npm fetch the packages, and keep of their 300 MB the files that are wanted."""
    npm = shutil.which("npm")
    if npm is None:
        raise FigleafError(
            "the page needs TensorFlow.js, which npm fetches once, and there is no npm here: install Node.js, or bring "
            f"{cache / 'node_modules'} from a machine that has it"
        )
    with explained(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=cache) as folder:
            for name in _LOCK:
                shutil.copyfile(web / name, Path(folder) / name)
            _fetch(npm, Path(folder), cache)
            for name in FILES:
                fetched = Path(folder) / "node_modules" / "@tensorflow" / name
                if fetched.is_file():
                    with atomic_path(cache / "node_modules" / "@tensorflow" / name) as temporary:
                        shutil.copyfile(fetched, temporary)


def _fetch(npm: str, folder: Path, cache: Path) -> None:
    # Without scripts: what is fetched is only read. Without optional packages: those are the Node command's decoders.
    command = [npm, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise FigleafError(f"npm did not fetch TensorFlow.js within {_NPM_SECONDS} s; try again later") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise FigleafError(
            f"npm could not fetch TensorFlow.js ({said[0] if said else f'exit code {done.returncode}'}); it needs the "
            f"npm registry once, or {cache / 'node_modules'} from another machine"
        )
