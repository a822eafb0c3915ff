"""A study in MLflow's pages: the list of its runs, with the table's metrics and what varies as columns, and the page
that compares them."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from figleaf.config import experiments_dir, to_dict
from figleaf.errors import FigleafError
from figleaf.overrides import typed
from figleaf.study.plan import Knowledge, Trial, compose_trials, plan
from figleaf.study.records import STUDY_TAG
from figleaf.study.render import to_markdown
from figleaf.study.selection import best_trial, value_of
from figleaf.study.spec import Study, find_study
from figleaf.study.state import gather, tracker_of
from figleaf.study.table import Table
from figleaf.tracking.find import FoundRun
from figleaf.tracking.links import (
    LONGEST_DESCRIPTION,
    RunList,
    comparison_link,
    finished_of_study,
    keep_view,
    list_link,
    only_these,
    pages_address,
)
from figleaf.tracking.params import flatten
from figleaf.tracking.store import Store, shown

# A column of the comparison takes 200 pixels: with more, nobody sees two of them beside each other.
MOST_COMPARED = 16
_MOST_NAMED = 64  # by a filter; a view has to fit into a tag
# What a run's parameters say of its place, and what the study sets itself.
_NOT_A_SETTING = ("study", "arm", "seed", "name", "parent_run_id", "resume")


@dataclass(frozen=True)
class StudyPages:
    """Where MLflow shows a study: `runs` in an experiment's list, `compared` beside each other.

    `choice` says in words which of the runs these are; `remarks` say what else one has to know to read the pages.
    """

    experiment_id: str
    runs: RunList
    compared: tuple[FoundRun, ...]
    choice: str
    remarks: tuple[str, ...]

    def links(self, address: str) -> tuple[str, str]:
        """The list and the comparison, in pages that are served at `address`."""
        return f"{address}/{list_link(self.experiment_id, self.runs)}", f"{address}/{comparison_link(self.compared)}"

    def lines(self, address: str) -> list[str]:
        """What to tell a person: the links and the remarks."""
        runs, comparison = self.links(address)
        return [f"in the MLflow UI: {runs}", f"side by side ({self.choice}): {comparison}", *self.remarks]


def study_pages(study: Study, trials: Sequence[Trial], known: Knowledge) -> StudyPages | None:
    """The pages of the planned `trials`; None when the tracker has no finished run of any of them."""
    finished = [trial for trial in trials if trial.run is not None]
    tracked = {trial.name: run for trial in finished if (run := known.tracked(trial)) is not None}
    if not tracked:
        return None
    there = [trial for trial in finished if trial.name in tracked]
    chosen, choice = _compared(study, there)
    experiments = Counter(run.experiment_id for run in tracked.values())
    experiment_id = experiments.most_common(1)[0][0]
    remarks = _remarks(study, len(finished), list(tracked.values()))
    if elsewhere := len(tracked) - experiments[experiment_id]:
        remarks.append(f"{elsewhere} of its runs are in another experiment and only on the page side by side")
    view = run_list(study, trials, list(tracked.values()), known)
    compared = tuple(tracked[trial.name] for trial in chosen)
    return StudyPages(experiment_id, view, compared, choice, tuple(remarks))


def run_list(
    study: Study, trials: Sequence[Trial], runs: Sequence[FoundRun] = (), known: Knowledge | None = None
) -> RunList:
    """The list of a study's `runs`, the best by the metric that selects on top, under their arms.

    Its filter is the study's tag where that finds the `runs` and no others among the known ones. It would miss those
    that were trained for another study, and find outdated ones; then the filter names the runs.
    """
    metrics = dict.fromkeys([*(column.key for column in study.table.columns), study.select.key])
    tagged = {
        run.run_id
        for run in (known.runs if known is not None else ())
        if run.tags.get(STUDY_TAG) == study.name and run.status == "FINISHED"
    }
    is_exact = tagged == {run.run_id for run in runs} or len(runs) > _MOST_NAMED
    return RunList(
        name=f"study {study.name}",
        filter=finished_of_study(study.name) if is_exact else only_these(runs),
        params=("arm", *varying(trials), "seed"),
        metrics=tuple(metrics),
        order_by=study.select.key,
        ascending=study.select.mode == "min",
        group_by="arm" if any(len(study.seeds_of(arm)) > 1 for arm in study.arms) else None,
    )


def varying(trials: Sequence[Trial]) -> list[str]:
    """The parameters in which the runs of `trials` differ, by their names in the tracker; not arm and seed."""
    runs = [flatten(to_dict(trial.config)) for trial in trials]
    keys = dict.fromkeys(key for params in runs for key in params)
    return [key for key in keys if key not in _NOT_A_SETTING and len({params.get(key) for params in runs}) > 1]


def first_description(study: Study, experiment_id: str, runs: RunList) -> str:
    """What the study's own run says of it before there are results, in Markdown: where its runs are, the question.

    The link comes first, since the pages fold a description after a few lines. It holds no address: it leads to the
    pages in which it stands.
    """
    return f"[Its finished runs]({list_link(experiment_id, runs)})\n\n{study.question}"


def description(study: Study, pages: StudyPages, table: Table) -> str:
    """What the study's own run says of it, in Markdown: where its runs are, the question, the table."""
    links = f"[Its finished runs]({list_link(pages.experiment_id, pages.runs)}), "
    links += f"[side by side]({comparison_link(pages.compared)}) ({pages.choice})"
    parts = [links, study.question, *(f"{remark}." for remark in pages.remarks)]
    whole = "\n\n".join([*parts, to_markdown(table)])
    if len(whole) <= LONGEST_DESCRIPTION:
        return whole
    return "\n\n".join([*parts, "The table is too long for this place: it is results/table.md among the artifacts."])


def where_to_look(
    study: Study, trials: Sequence[Trial], known: Knowledge, store: Store, overrides: Sequence[str] = ()
) -> list[str]:
    """Lines that say where to see the planned `trials` in MLflow's pages: links to a server, else the command for them.

    Empty when the tracker has no finished run of the study. The view that a link needs is saved in the server.
    """
    pages = study_pages(study, trials, known)
    if pages is None:
        return []
    address = pages_address(store.uri)
    if address is None:
        return [f"in the MLflow UI: `{' '.join(['figleaf ui', study.name, *map(typed, overrides)])}`"]
    keep_view(store, pages.experiment_id, pages.runs)
    return pages.lines(address)


def open_pages(name: str, overrides: Sequence[str]) -> tuple[Store, StudyPages]:
    """The tracker and the pages of the study `name`, its view saved.

    Raises `FigleafError` when there is no such study or none of its finished runs is in the tracker.
    """
    study = find_study(name, experiments_dir())
    trials = compose_trials(study, overrides)
    store = tracker_of(trials)
    known = gather(store, study)
    planned = plan(trials, known)
    pages = study_pages(study, planned, known)
    if pages is None:
        recorded = any(trial.run is not None for trial in planned)
        raise FigleafError(
            f"study {name}: none of its finished runs is in {shown(store.uri)}"
            + (f" ({study.results} holds records of them)" if recorded else "")
            + f"; `figleaf study run {name}{' --records ignore' * recorded}` trains them, `figleaf ui` shows all others"
        )
    keep_view(store, pages.experiment_id, pages.runs)
    return store, pages


def _compared(study: Study, trials: Sequence[Trial]) -> tuple[list[Trial], str]:
    """Which of the finished `trials` to set side by side, and which these are in words."""
    if len(trials) <= MOST_COMPARED:
        return list(trials), "the one run" if len(trials) == 1 else f"all {len(trials)} runs"
    by_arm = {arm: [trial for trial in trials if trial.arm == arm] for arm in study.arms}
    best = [best_trial(study, members, arm) or members[0] for arm, members in by_arm.items() if members]
    which = f"of {len(trials)} runs the best of each arm by {study.select.key}"
    if len(best) <= MOST_COMPARED:
        return best, which
    return sorted(best, key=_rank(study))[:MOST_COMPARED], f"{which}, the {MOST_COMPARED} best of {len(best)} arms"


def _rank(study: Study) -> Callable[[Trial], float]:
    """The smaller, the better; without a value last."""
    sign = -1.0 if study.select.mode == "max" else 1.0

    def rank(trial: Trial) -> float:
        value = value_of(study, trial)
        return math.inf if value is None else sign * value

    return rank


def _remarks(study: Study, n_finished: int, runs: Sequence[FoundRun]) -> list[str]:
    """What the pages do not say: which of the finished runs they lack, and which bear another study's names."""
    found = []
    if lacking := n_finished - len(runs):
        found.append(f"{lacking} of its {n_finished} finished runs are records only, not in this tracker")
    for other, n in Counter(run.tags.get(STUDY_TAG, "") for run in runs).items():
        if other != study.name:
            owner = f"the study {other}" if other else "no study"
            found.append(f"{n} of its runs were trained for {owner} and bear the names of its arms")
    return found
