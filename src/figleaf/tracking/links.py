"""Links into MLflow's pages: a run list with its filter and columns, and the page that compares runs.

What the pages read from an address was found in their scripts and looked at in a browser (MLflow 3.17.2). A filter and
an order can stand in the address; columns and groups cannot. They come from a saved view, a tag of the experiment that
the address names, and that the pages list under "Saved views".

Everything behind the # of an address stays in the browser. A link without what comes before it, as in a run's
description, therefore works wherever the pages are served.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from figleaf.tracking.find import FoundRun
from figleaf.tracking.store import Store

DESCRIPTION_TAG = "mlflow.note.content"  # shown as Markdown on a run's page
LONGEST_DESCRIPTION = 8000  # MLflow cuts longer values of a run's tag in silence
_VIEW_TAG = "mlflow.sharedViewState."
_LONGEST_FOR_OLDER = 5000  # MLflow 3.14 refuses longer values of an experiment's tag, 3.17 those beyond 20,000
# Opens the pages for training: by default those for language models stand there.
_TRAINING = "workflowType=machine_learning"
_FIRST_COLUMNS = ("attributes.`Run Name`", "runDateAndNestInfo", "duration")  # those of every list
# The rest of what a view of the pages holds, as for an experiment that is opened for the first time. The pages of
# MLflow 3.14 take a view as it is, without defaults of their own.
_EVERY_VIEW = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsHiddenMode": "SHOW_ALL",
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "groupsExpanded": {},
    "columnWidths": {},
    "runListHidden": False,
    "viewMaximized": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "autoRefreshEnabled": True,
}


@dataclass(frozen=True)
class RunList:
    """How a run list looks: the runs that `filter` lets through, with parameters and metrics as columns, in this order.

    They are ordered by the metric `order_by` and, with `group_by`, gathered under the mean of those that share that
    parameter's value. `name` is the view's in the pages; it holds letters, digits, spaces, '.', '_' and '-'.
    """

    name: str
    filter: str
    params: tuple[str, ...]
    metrics: tuple[str, ...]
    order_by: str
    ascending: bool = False
    group_by: str | None = None

    @property
    def key(self) -> str:
        """What an address calls the view by; it stays the same, so that a link shows the view as it is today."""
        return self.name.replace(" ", "-")

    def tag(self) -> tuple[str, str]:
        """The experiment's tag that holds the view: its name and its value, JSON; equal views give equal texts."""
        grouped = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": self.group_by}]}
        columns = [*(_column("params", key) for key in self.params), *(_column("metrics", key) for key in self.metrics)]
        state = {
            "searchFilter": self.filter,
            "orderByKey": _column("metrics", self.order_by),
            "orderByAsc": self.ascending,
            "selectedColumns": columns,
            "columnOrder": [*_FIRST_COLUMNS, *columns],  # otherwise in alphabetical order
            "groupBy": None if self.group_by is None else grouped,
            **_EVERY_VIEW,
        }
        # The pages of MLflow 3.17 read `state`, those of 3.14 what stands beside it.
        view = {"name": self.name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
        for_both = json.dumps({**view, **state})
        return _VIEW_TAG + self.key, for_both if len(for_both) <= _LONGEST_FOR_OLDER else json.dumps(view)


def finished_of_study(name: str) -> str:
    """The filter of a study's finished runs; ones to come are let through, too."""
    return f"tags.`figleaf.study` = '{name}' and attributes.status = 'FINISHED'"


def only_these(runs: Sequence[FoundRun]) -> str:
    """The filter of exactly these runs."""
    return f"attributes.run_id IN ({', '.join(repr(run.run_id) for run in runs)})"


def keep_view(store: Store, experiment_id: str, view: RunList) -> None:
    """Save the view in the experiment, in the place of one of the same name; nothing is written when it is the same.

    Raises `FigleafError` when the tracker is away.
    """
    key, value = view.tag()
    with store.explained():
        if store.client.get_experiment(experiment_id).tags.get(key) != value:
            store.client.set_experiment_tag(experiment_id, key, value)


def list_link(experiment_id: str, view: RunList) -> str:
    """The run list of an experiment in a saved view, to be put behind the pages' address and a slash."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={view.key}&{_TRAINING}"


def comparison_link(runs: Sequence[FoundRun]) -> str:
    """The page that compares these runs, in their order, to be put behind the pages' address and a slash."""
    experiments = sorted({run.experiment_id for run in runs})
    # `runs` comes first: the page looks for "?runs", and gives up with an error at anything else.
    return f"#/compare-runs?runs={_listed([run.run_id for run in runs])}&experiments={_listed(experiments)}&{_TRAINING}"


def pages_address(uri: str) -> str | None:
    """Where the tracker at `uri` shows its pages, without user and password; None when it is not a server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def comparison_address(runs: Sequence[FoundRun]) -> str | None:
    """The whole address of the page that compares `runs`; None unless all of them are in one server."""
    trackers = {run.tracker for run in runs}
    address = pages_address(trackers.pop()) if len(trackers) == 1 else None
    return None if address is None else f"{address}/{comparison_link(runs)}"


def _column(kind: str, key: str) -> str:
    return f"{kind}.`{key}`"


def _listed(values: Sequence[str]) -> str:
    return quote(json.dumps(values, separators=(",", ":")), safe="")
