"""The command line: `figleaf COMMAND [key=value | PATH ...]`. A command's module is imported when it runs."""

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path

from figleaf import __version__
from figleaf.errors import FigleafError, printable

EXAMPLES = """\
examples:
  figleaf train data=digits model=debug trainer.epochs=2     a run that takes seconds
  figleaf train model=vgg19_bn_small augment=pca seed=3      one run; every key of conf/ can be set
  figleaf train -m model.dropout=0,0.5 seed=1,2              a small grid, one run after the other
  figleaf study run demo                                     run what is missing of experiments/demo
  figleaf study table demo                                   its table
  figleaf search search_digits                               settings that do best on val, found by Optuna
  figleaf data index my_images --out my_images/manifest.csv  a manifest of your own images
  figleaf train data=manifest data.manifest=my_images/manifest.csv
  figleaf evaluate run=latest data=manifest data.manifest=my_images/manifest.csv
  figleaf similar photo.jpg --in my_index                    pictures like it; --build my_index data=... makes the index
  figleaf predict my_images --model best:demo --out scores.csv
  figleaf export run=best:demo format=[safetensors,onnx]
  figleaf compress run=best:demo prune=0.5                   half the multiplications; then fine-tune model=from_file
  figleaf serve model=export/mine                            score pictures that are sent over HTTP
  figleaf registry add best:demo --name vgg-sfw              a version of a model that MLflow serves
  figleaf visualize run=best:demo image=photo.jpg filters=18     filters, activations, class maps as one page
  figleaf web run=best:demo                                  a page that runs the network in the browser
  figleaf ui demo                                            a study's runs in the MLflow pages, and side by side

RUN is a run id, a unique start of one, a run name, <study>/<arm>-<seed> as `figleaf study status` calls a trial,
latest (the newest that is finished and holds a model), best:<study>[:<arm>], or models:/NAME@champion (or /VERSION),
which `figleaf registry` makes.
FIGLEAF_HOME (default ./runs) holds the tracking database, artifacts, caches and run folders.
"""
_STOPPED_CODE = 128 + signal.SIGINT  # a shell's code for a process that Ctrl-C ended
_GONE = "the working folder is gone: change to one that is there; the same command goes on from what it had done"


@dataclass(frozen=True)
class Command:
    """A command: its module in `figleaf.commands`, what `figleaf --help` says of it, and whether it goes on when asked
    again after a stop.
    """

    module: str
    summary: str
    resumes: bool = False


COMMANDS = {
    "train": Command("train", "train, measure and track one run", resumes=True),
    "study": Command("study", "run a study's missing trials; show its status or table", resumes=True),
    "compare": Command("compare", "parameters, metrics and paired tests of runs, with an exit code for CI"),
    "search": Command("search", "let Optuna search a study's settings, giving up what is hopeless", resumes=True),
    "explain-run": Command("explain_run", "where a run came from; trains it again and compares"),
    "evaluate": Command("evaluate", "predictions and metrics of a run or an exported file on any manifest"),
    "predict": Command("predict", "scores for files, folders and archives, an answer for every file", resumes=True),
    "serve": Command("serve", "score what is sent over HTTP: bounded, batched, on this machine"),
    "calibrate": Command("calibrate", "probabilities that mean what they say, and thresholds that keep a promise"),
    "compress": Command("compress", "a smaller network made of a run's: channels pruned, fc layers of low rank"),
    "export": Command("export", "the best checkpoint of a run as safetensors and ONNX, checked against it"),
    "visualize": Command(
        "visualize", "what a network's filters look for, find in a picture, and where it sees a class"
    ),
    "web": Command("web", "a page that runs a network in the browser, and sends nothing anywhere"),
    "report": Command("report", "a run on one page: curves, confusion, slices, its surest errors with class maps"),
    "skin": Command("skin", "what the skin lab sees in a picture, drawn: masks, regions, the filter of 1996"),
    "data": Command("data", "index a folder, check files and leaks, cut a split, shards, a data card", resumes=True),
    "similar": Command("similar", "the pictures of an index that are most like a given one; makes the index"),
    "registry": Command("registry", "named models: add a version, promote the one that is shown to be no worse"),
    "runs": Command("runs", "list runs, mark dead ones, deliver what could not be delivered"),
    "server": Command("server", "a tracker for a team: MLflow with PostgreSQL behind it"),
    "ui": Command("ui", "the MLflow pages of the project's store, with links to a study's runs"),
    "check-gpu": Command("check_gpu", "what works on this machine's CUDA devices, as one JSON report"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; exit code 0, 1 for a failure that was reported, 2 for a mistake that is named."""
    _fill_closed_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="figleaf",
        description="A laboratory for SFW/NSFW image classifiers.",
        epilog="commands:\n"
        + "".join(f"  {name:<12} {command.summary}\n" for name, command in COMMANDS.items())
        + f"\n`figleaf COMMAND --help` tells more.\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="figleaf COMMAND [key=value | PATH ...]",
    )
    parser.add_argument("--version", action="version", version=f"figleaf {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    if not arguments:
        parser.print_help()
        return 2
    command = COMMANDS[parser.parse_args(arguments[:1]).command]
    if _is_nowhere():  # every command would stumble over it, each in its own way
        return _refused(_GONE)
    try:
        module = importlib.import_module(f"figleaf.commands.{command.module}")
        return int(module.main(arguments[1:]))
    except FigleafError as error:
        return _refused(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "figleaf":
            raise
        return _refused(
            f"`figleaf {arguments[0]}` needs {error.name}, which is not installed here: pip install 'figleaf[lab]' "
            "(`figleaf predict` with an exported .onnx file needs no extra)"
        )
    except FileNotFoundError:
        if not _is_nowhere():
            raise
        return _refused(_GONE)
    except KeyboardInterrupt:
        return _stopped(command)
    except SystemExit as ended:
        # Lightning turns Ctrl-C into an exit of its own.
        if isinstance(ended.__context__, KeyboardInterrupt):
            return _stopped(command)
        raise
    except BrokenPipeError:
        # The reader, `head` for instance, has what it wanted.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if error.filename is None:  # standard output: what is left in its buffer would be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refused(
            f"{error.filename or 'standard output'}: {error.strerror}; make room and give the command again"
        )


def _fill_closed_streams() -> None:
    """Where a standard stream is closed, nobody listens. Left so, a file opened later would take its number, and get
    what libraries in C print there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - stays open


def _is_nowhere() -> bool:
    """Whether the working folder has been deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _refused(why: str) -> int:
    print("error:", "\n".join(printable(line) for line in why.split("\n")), file=sys.stderr)
    return 2


def _stopped(command: Command) -> int:
    """After Ctrl-C: say so, and wait for nobody who has been told to stop, or ends with this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a further one would cut off the words and the exit code
    print("stopped" + "; the same command goes on from here" * command.resumes, file=sys.stderr)
    if left := len(active_children()):
        print(f"{left} process{'es are' if left > 1 else ' is'} still ending", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STOPPED_CODE)  # an exit in order would wait for them
    return _STOPPED_CODE


if __name__ == "__main__":
    sys.exit(main())
