"""Claim: a study's table over 1,000 runs takes at most 20 s (`seconds`) and grows linearly (`growth`).

Made-up records of 50 arms x 20 seeds, 700 test predictions in 140 groups each, on disk as a study keeps them. Timed is
everything that stands between `figleaf study table` and its tables: reading the study, composing its configurations,
reading the records, the paired comparison of 49 arms with the baseline (2,000 resamples of the groups, Holm), and the
tables as text. `growth` is the time for 1,000 runs over that for 250 (50 arms x 5 seeds), at most 4.5 where linear
would be 4. CPU seconds on one core, median over rounds, in turns. The last line is one JSON object.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from figleaf.config import fingerprint, to_dict
from figleaf.evaluate.predictions import Predictions
from figleaf.study.plan import Knowledge, Status, compose_trials, plan
from figleaf.study.records import Record, load_records
from figleaf.study.render import to_markdown
from figleaf.study.results import find
from figleaf.study.spec import load_study
from side_by_side import one_core, report

ARMS, GROUP = 50, 5
DATA_HASH = "d" * 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of 200 (default: %(default)s)")
    parser.add_argument("--predictions", type=int, default=700, help="of each run (default: %(default)s)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            runs: _write_study(Path(folder) / f"runs{runs}", runs // ARMS, options.predictions)
            for runs in (options.runs // 4, options.runs)
        }
        seconds: dict[int, list[float]] = {runs: [] for runs in sizes}
        for _ in range(options.repeats):
            for runs, table in sizes.items():
                start = time.process_time()
                table()
                seconds[runs].append(time.process_time() - start)
    few, many = (statistics.median(seconds[runs]) for runs in sizes)
    report(
        {
            "benchmark": "study_table",
            "seconds": round(many, 2),
            "growth": round(many / few, 2),
            "seconds_of_a_quarter": round(few, 2),
            "runs": options.runs,
            "predictions": options.predictions,
            "repeats": options.repeats,
        },
        packages=("figleaf", "numpy", "pandas", "pyarrow"),
    )


def _write_study(folder: Path, seeds: int, count: int) -> Callable[[], None]:
    """A study with made-up records; gives what makes its tables."""
    folder.mkdir()
    arms = "\n".join(f"  arm{i}: [model.dropout={i / 100}]" for i in range(ARMS))
    (folder / "study.yaml").write_text(
        f"question: How long does a table take?\nbase: [data=digits, model=debug]\nseeds: {list(range(seeds))}\n"
        f"arms:\n{arms}\ntable: {{baseline: arm0, columns: [{{key: test/auroc, interval: [seeds, groups]}}]}}\n"
    )
    rng = np.random.default_rng(0)
    unsafe = np.arange(count) % 2 == 1
    samples = pd.DataFrame(
        {
            "sample_id": [f"images/{i}.png" for i in range(count)],
            "content_sha256": [f"{i:064x}" for i in range(count)],
            "split": "test",
            "group": [f"g{i // GROUP}" for i in range(count)],
            "slice": "all",
            "label": np.where(unsafe, "nsfw", "sfw"),
        }
    )
    names = {"classes": ("sfw", "nsfw"), "unsafe": ("nsfw",), "data_name": "made-up", "data_hash": DATA_HASH}
    study = load_study(folder)
    for trial in compose_trials(study):
        logits = np.stack([np.zeros(count), rng.normal(unsafe * 2.0, 1)], axis=1).astype(np.float32)
        told = Predictions.from_logits(samples, logits, **names)  # type: ignore[arg-type]
        record = Record(
            run_id=f"{trial.arm}{trial.seed}".ljust(32, "0"),
            config=to_dict(trial.config),
            tags={"figleaf.fingerprint": fingerprint(trial.config, DATA_HASH), "figleaf.data_hash": DATA_HASH},
            hardware={"cpu": "made up", "cores": 1, "usable_cores": 1, "memory_gib": 1.0},
            metrics={"test/auroc": 0.9, "test/auroc_low": 0.8, "test/auroc_high": 0.95, "val/auroc": 0.9},
            curves={"epoch/val_auroc": [(step, 0.9) for step in range(16)]},
            _read_predictions=lambda told=told: told,
        )
        record.save(study.results, trial.name)

    def table() -> None:
        known = Knowledge([], folder, lambda path: False, records=load_records(study.results))
        trials = plan(compose_trials(load_study(folder)), known)
        assert all(trial.status is Status.DONE for trial in trials)
        assert len([to_markdown(drawn) for drawn in find(study, trials).tables.values()]) == 2

    return table


if __name__ == "__main__":
    main()
