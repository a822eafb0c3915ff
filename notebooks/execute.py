"""Execute the notebooks and keep what they show: `.venv/bin/python notebooks/execute.py [NAME ...]`.

They run in an empty folder with a FIGLEAF_HOME of their own, in a kernel of the Python that runs this, so that what
they show is what a fresh clone shows. What hangs on the machine or the moment (versions, times, counters) is not kept.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
PARAMETERS = "parameters"  # tag of the cell that a reader edits
_TIMEOUT_S = 600  # of one cell
_QUIET = "ignore:IProgress not found"  # tqdm's wish for widgets, which it prints with its own path


def names() -> list[str]:
    """The notebooks of this folder."""
    return sorted(path.stem for path in HERE.glob("*.ipynb"))


def read(name: str, parameters: str | None = None) -> NotebookNode:
    """The notebook, with `parameters` as the source of the cell that holds these."""
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    if parameters is not None:
        (cell,) = [cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", [])]
        cell.source = parameters
    return notebook


def executed(notebook: NotebookNode, folder: Path, environment: Mapping[str, str]) -> NotebookNode:
    """Run all cells in `folder` and return the notebook with what they show.

    `environment` is added to this process's. Raises nbclient's `CellExecutionError` when a cell does.
    """
    with tempfile.TemporaryDirectory(prefix="kernel-") as place:  # a short path, as a socket's has to be
        # No folder of kernels is looked into: what is left is that of the running interpreter, with its packages. The
        # kernel is spoken to through files that only this user can open, not through ports.
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport="ipc",
            connection_file=str(Path(place) / "kernel.json"),
        )
        resources = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, km=kernel, timeout=_TIMEOUT_S, record_timing=False, resources=resources)
        own = {"IPYTHONDIR": place, "PYTHONWARNINGS": _QUIET}  # without what a user has start with each IPython
        try:
            finished: NotebookNode = client.execute(env={**os.environ, **own, **environment})
        finally:
            run_sync(kernel.shutdown_kernel)(now=True)
    return tidied(finished)


def tidied(notebook: NotebookNode) -> NotebookNode:
    """Without what differs between two machines that show the same."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return notebook


def main(chosen: list[str]) -> None:
    """Execute the notebooks of these names, or all."""
    for name in chosen or names():
        with tempfile.TemporaryDirectory() as folder:
            shown = executed(read(name), Path(folder), {"FIGLEAF_HOME": str(Path(folder) / "home")})
        nbformat.write(shown, HERE / f"{name}.ipynb")
        print(f"{name}: {(HERE / f'{name}.ipynb').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
