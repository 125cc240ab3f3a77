"""The tracker `mlflow`: a run per cell, nested under a run of the sweep.

Runs are found again by their tags, so that writing a sweep again continues them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.trackers import register_tracker
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Epoch
from lenet_sweep.core.text import format_setting
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.track import RUNNING, UNFINISHED, TrackedCell, TrackedSweep, Tracker, metrics

if TYPE_CHECKING:
    from mlflow.entities import Run

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"  # in the folder of the store
EXPERIMENT = "lenet-sweep"
REPORT = "report.html"  # has the commands, the host and folders, so it is not sent to a server
SWEEP, CELL, STATUS, ERROR = (
    f"lenet_sweep.{name}" for name in ("sweep", "cell", "status", "error")
)  # tags
SCALAR = "accuracy"  # the metric that shows which epochs a run already has
BATCH = 100  # epochs in one request, with up to 6 metrics each; MLflow accepts 1000 metrics
STATUSES = {"ok": "FINISHED", STOPPED: "FINISHED", "killed": "KILLED", UNFINISHED: "KILLED"}
# MLflow reads these when it is imported and with each request. A server that is down must not
# block the thread for minutes, which is MLflow's default.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


@register_tracker("mlflow")
class MlflowTracker(Tracker):
    """Writes to the server at MLFLOW_TRACKING_URI, or else to a database beside the store."""

    def open(self, sweep: TrackedSweep) -> None:
        # mlflow.org/docs/latest/community/usage-tracking: the way to send no usage data.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

        store = sweep.store.resolve()
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not (address or sweep.is_running):
            _check_store(sweep)
        location = None if address else (store / ARTIFACTS).as_uri()
        address = address or f"sqlite:///{(store / DATABASE).as_posix()}"
        self._client = MlflowClient(address, registry_uri=address)
        self._sweep = sweep
        self._experiment = self._find_experiment(location)
        self._runs = self._find_runs()
        self._logged: dict[str, dict[int, float]] = {}  # SCALAR by epoch, by cell id
        self._written: dict[str, TrackedCell] = {}  # by cell id
        self._figures: set[Path] = set()
        parent = self._runs.get("") or self._create_run("", sweep.name, sweep.person, {})
        self._parent = parent.info.run_id
        self._client.update_run(self._parent, status="RUNNING")

    def _find_experiment(self, location: str | None) -> str:
        """The id of the experiment, which is created if it does not exist."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:  # no other sweep has just created it
                    raise
        return str(found.experiment_id)

    def _find_runs(self) -> dict[str, Run]:
        """The runs of this sweep by cell id; that of the sweep has the key ''."""
        runs: dict[str, Run] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{SWEEP}` = '{self._sweep.id}'", page_token=token
            )
            runs |= {run.data.tags.get(CELL, ""): run for run in page}
            token = page.token
            if not token:
                return runs

    def _create_run(self, cell_id: str, name: str, person: str, tags: Mapping[str, str]) -> Run:
        tags = {SWEEP: self._sweep.id, **tags}
        if cell_id:
            tags |= {CELL: cell_id}
        if person:
            tags |= {"mlflow.user": person}
        return self._client.create_run(
            self._experiment, _milliseconds(self._sweep.started), tags, run_name=name
        )

    def log(self, cell: TrackedCell) -> None:
        key = cell.cell.id
        if self._written.get(key) == cell:
            return
        run = self._runs.get(key)
        if run and key not in self._logged:
            logged = self._client.get_metric_history(run.info.run_id, SCALAR)
            self._logged[key] = {metric.step: metric.value for metric in logged}
        if run and not _agree(self._logged[key], cell.history):
            self._client.delete_run(run.info.run_id)  # it was trained again, with other results
            self._written.pop(key, None)
            run = None
        if run is None:
            run = self._create_run(
                key, cell.name, cell.person, {"mlflow.parentRunId": self._parent}
            )
            self._runs[key], self._logged[key] = run, {}
        self._write(run, cell)
        self._written[key] = cell

    def _write(self, run: Run, cell: TrackedCell) -> None:
        """Write what a run does not have yet."""
        from mlflow.entities import Param, RunTag  # noqa: PLC0415 - as above

        run_id, key = run.info.run_id, cell.cell.id
        if not run.data.params and key not in self._written:
            params = [Param(name, format_setting(value)) for name, value in cell.settings.items()]
            self._client.log_batch(run_id, params=params)
        logged = self._logged[key]
        new = _metrics(cell, len(logged), self._sweep.started)
        for start in range(0, len(new), BATCH):
            self._client.log_batch(run_id, [*chain.from_iterable(new[start : start + BATCH])])
        logged |= {epoch.epoch: metrics(epoch)[SCALAR] for epoch in cell.history}
        if cell.status != RUNNING:
            tags = [RunTag(STATUS, cell.status), RunTag(ERROR, cell.error)]
            self._client.log_batch(run_id, tags=tags)
        for path in cell.figures:
            self._client.log_artifact(run_id, str(path), "figures")
            self._figures.add(path)
        if run.info.run_name != cell.name and key not in self._written:
            self._client.update_run(run_id, name=cell.name)
        if cell.status == RUNNING:
            if key not in self._written or self._written[key].status != RUNNING:
                self._client.update_run(run_id, status="RUNNING")
        else:
            ended = cell.times(self._sweep.started)[-1] if cell.history else self._sweep.started
            status = STATUSES.get(cell.status, "FAILED")
            self._client.set_terminated(run_id, status, _milliseconds(ended))

    def close(self, files: Sequence[Path], *, complete: bool) -> None:
        for path in files:
            is_private = path.name == REPORT and os.environ.get("MLFLOW_TRACKING_URI")
            if path not in self._figures and not is_private:  # those of a cell are with its run
                folder = "figures" if path.parent.name == "figures" else None
                self._client.log_artifact(self._parent, str(path), folder)
        self._client.set_terminated(self._parent, "FINISHED" if complete else "KILLED")


def _check_store(sweep: TrackedSweep) -> None:
    """Raise StoreError unless the store has runs and contains the sweep.

    A sweep.json from someone else could name any folder, and the database would be created there.
    """
    store, folder = sweep.store.resolve(), sweep.folder.resolve()
    if not (folder.is_relative_to(store) and (store / "runs").is_dir()):
        raise StoreError(
            f"{sweep.folder / 'sweep.json'}: the store {store} has no runs or does not contain the "
            "sweep; set MLFLOW_TRACKING_URI to the database or server to write to"
        )


def _agree(values: Mapping[int, float], history: Sequence[Epoch]) -> bool:
    """Whether these values are the accuracies of a history, as far as both have the epochs."""
    expected = {epoch.epoch: metrics(epoch)[SCALAR] for epoch in history}
    shared = values.keys() & expected.keys()
    return sorted(values) == [*range(1, len(values) + 1)] and all(
        math.isclose(values[step], expected[step], rel_tol=1e-9) for step in shared
    )


def _metrics(cell: TrackedCell, after: int, started: float) -> list[list[Any]]:
    """The metrics of each epoch after the first `after`."""
    from mlflow.entities import Metric  # noqa: PLC0415 - as above

    return [
        [Metric(k, value, _milliseconds(time), epoch.epoch) for k, value in metrics(epoch).items()]
        for time, epoch in zip(cell.times(started), cell.history, strict=True)
        if epoch.epoch > after
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
