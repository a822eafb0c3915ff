"""`figleaf compress`: a smaller network made of a run's, as a file to measure and to fine-tune."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import CompressConfig, compose, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedNetwork
    from figleaf.vgg.channel_pruning import Cost, Importance
    from figleaf.vgg.network import VGG

EPILOG = """\
Writes one .safetensors file: the smaller network, from which run it comes, and what was done to it. It is used like any
other network's file (`figleaf evaluate run=FILE`), and trained on with its own architecture:

  figleaf compress run=best:demo prune=0.5 out=half.safetensors
  figleaf train model=from_file model.weights=half.safetensors trainer.epochs=0        as it is: a run for the table
  figleaf train model=from_file model.weights=half.safetensors optimizer=finetune      fine-tuned

The run's tags name the run that the weights come from, and its fingerprint holds the file's content.

prune=0.5 takes whole channels out, the least important of all layers first, until that share of the multiplications (or
of=parameters) is left. by=bn_scale goes by the scales of batch norms, which training with optimizer.bn_l1=1e-4 has
drawn to zero. svd=0.9 makes two thin layers of each hidden layer of an fc head, with the least rank that keeps that
share of its squared singular values; ranks=[512,128] says which. Given both, it prunes first.

In a study, first run the arm whose runs are compressed, then compress each seed's, then run the rest; an override may
hold the trial's seed:

  figleaf study run NAME --arm whole
  for seed in 1 2 3; do figleaf compress run=NAME/whole-$seed prune=0.5 out=compressed/NAME-$seed.safetensors; done
  figleaf study run NAME        with an arm [model=from_file, 'model.weights=compressed/NAME-${seed}.safetensors']
"""
_KEPT = (
    "classes",
    "unsafe",
    "data_name",
    "data_hash",
)  # of what the file says: a threshold would have to be chosen anew


def main(arguments: Sequence[str]) -> int:
    """Compress."""
    options = parse_mixed(
        with_overrides("compress", "A smaller network made of a run's, as a file to fine-tune.", EPILOG), arguments
    )
    config: CompressConfig = compose("compress", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    if config.prune is None and config.svd is None and config.ranks is None:
        raise FigleafError(
            "expected prune=SHARE, svd=SHARE or ranks=[R1,R2]; `figleaf compress --help` says what they do"
        )
    if config.svd is not None and config.ranks is not None:
        raise FigleafError(f"svd={config.svd} ranks={config.ranks}: give one of them")
    from figleaf.commands.run_names import weights_of
    from figleaf.commands.scorers import open_network
    from figleaf.files import sha256_file
    from figleaf.vgg.weights import save

    opened = open_network(config.run, config.tracking, "cpu")
    source = Path(config.run).expanduser() if opened.run is None else weights_of(opened.run)
    out = _out(config, opened.name, source)
    start, whole = time.monotonic(), opened.scorer.net
    net, steps = _compressed(whole, config)
    metadata = _origin(opened, sha256_file(source)) | {"compression": [*opened.metadata.get("compression", []), *steps]}
    save(net, out, metadata)
    seconds, before, after = time.monotonic() - start, _cost(whole), _cost(net)
    shown = {"parameters": (1e6, "M parameters"), "gmacs": (1, "GMACs"), "megabytes": (1, "MB")}
    costs = [f"{after[key] / scale:.3g} of {before[key] / scale:.3g} {unit}" for key, (scale, unit) in shown.items()]
    say(f"{', '.join(costs)}; {seconds:.1f} s\n{out}")
    say(f"to go on: figleaf train model=from_file model.weights={config.out or out} optimizer=finetune, with its data")
    said = {key: metadata[key] for key in ("parent_run_id", "parent_sha256", "compression")}
    cost = {"before": before, "after": after, "seconds": seconds}
    print_json({"out": str(out), "sha256": sha256_file(out), **said, **cost})
    return 0


def _origin(opened: "OpenedNetwork", sha256: str) -> dict[str, Any]:
    """What the new file says of the network it is made of, which a file of `sha256` holds."""
    said = opened.metadata
    run_id = said.get("parent_run_id") or said.get("run_id") or "" if opened.run is None else opened.run.run_id
    return {**{key: said[key] for key in _KEPT if key in said}, "parent_run_id": run_id, "parent_sha256": sha256}


def _out(config: CompressConfig, name: str, source: Path) -> Path:
    steps = [f"prune{config.prune:g}"] if config.prune is not None else []
    steps += [f"svd{config.svd:g}"] if config.svd is not None else []
    steps += [f"rank{'_'.join(map(str, config.ranks))}"] if config.ranks is not None else []
    default = Path("compressed") / f"{file_name(name)}-{'-'.join(steps)}.safetensors"
    out = Path(config.out or default).expanduser().absolute()
    if out.suffix != ".safetensors":
        raise FigleafError(f"out={config.out}: expected a name that ends in .safetensors")
    if out.is_dir():
        raise FigleafError(f"out={config.out}: a folder; name a file")
    if out.exists() and out.samefile(source):
        raise FigleafError(f"out={config.out}: the file that is compressed; name another one")
    return out


def _compressed(net: "VGG", config: CompressConfig) -> tuple["VGG", list[dict[str, Any]]]:
    """The smaller network, and what was done."""
    steps: list[dict[str, Any]] = []
    if config.prune is not None:
        from figleaf.vgg.channel_pruning import prune

        of, by = cast("Cost", config.of), cast("Importance", config.by)
        net = prune(net, config.prune, of=of, by=by, multiple=config.multiple).net
        steps.append({"step": "prune", "share": config.prune, "of": of, "by": by, "multiple": config.multiple})
    if config.svd is not None or config.ranks is not None:
        from figleaf.vgg.low_rank import factorise

        net = factorise(net, energy=config.svd, ranks=config.ranks)
        steps.append({"step": "svd", "energy": config.svd, "ranks": list(net.fc_ranks or ())})
    return net, steps


def _cost(net: "VGG") -> dict[str, float]:
    from figleaf.vgg.cost import gmacs, megabytes, parameters

    return {"parameters": parameters(net), "gmacs": gmacs(net), "megabytes": megabytes(net)}
