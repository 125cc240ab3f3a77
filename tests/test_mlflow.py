"""The tracker `mlflow`, read with MLflow's own client."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import made_sweeps
import pytest

from lenet_sweep.core.events import Epoch
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.runner.outputs import write_outputs
from lenet_sweep.storage.files import read_json, write_json
from lenet_sweep.track import collect, tracking
from lenet_sweep.track.__main__ import main as track
from lenet_sweep.track.mlflow import DEFAULTS, MlflowTracker

# MLflow is imported in the tests, since that takes seconds.
pytestmark = [
    pytest.mark.skipif(
        not (find_spec("mlflow") and find_spec("sqlalchemy")), reason="requires lenet-sweep[mlflow]"
    ),
    pytest.mark.filterwarnings("ignore"),  # of MLflow and the libraries that it uses
]

SECRET = "s3cret"  # noqa: S105 - in the address of a server that does not exist


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without runs, since creating one takes seconds."""
    from mlflow import MlflowClient  # noqa: PLC0415 - see above

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of MLflow from outside, and none that remain after a test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def made(tmp_path: Path, small_folder: Callable[..., Path], empty_database: Path) -> Sweep:
    """A sweep of three cells of 3 epochs, of which the last one failed."""
    (tmp_path / "out").mkdir()
    shutil.copy(empty_database, tmp_path / "out" / "mlflow.db")
    return made_sweeps.tracked(small_folder(), tmp_path / "out", person="<b>Ada</b>")


class Reader:
    """The runs of a server or database by name, and the points of their metrics."""

    def __init__(self, address: str) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 - see above

        self.client = MlflowClient(address)
        experiment = self.client.get_experiment_by_name("lenet-sweep")
        runs = self.client.search_runs([experiment.experiment_id])
        self.runs = {run.info.run_name: run for run in runs}
        assert len(self.runs) == len(runs)

    def points(self, name: str, metric: str = "accuracy") -> list[tuple[int, float]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def files(self, name: str, folder: str | None = None) -> list[str]:
        run_id = self.runs[name].info.run_id
        return [file.path for file in self.client.list_artifacts(run_id, folder)]

    def content(self) -> dict[str, Any]:
        """All that a repetition must not change."""
        return {
            name: (run.info.run_id, run.data.params, run.data.tags, self.points(name))
            for name, run in self.runs.items()
        }


def read(sweep: Sweep) -> Reader:
    return Reader(f"sqlite:///{sweep.store.out / 'mlflow.db'}")


def assert_written(reader: Reader, sweep: Sweep) -> None:
    """Each cell has a run below that of the sweep, with its settings, epochs and outcome."""
    parent = reader.runs["it"]
    assert parent.info.status == "FINISHED"
    assert "results.csv" in reader.files("it")
    assert {*reader.runs} == {"it", "lr 0.1", "lr 0.01", "lr 0.001"}
    history = sweep.store.run_folder(sweep.cells[0].run_id).history()
    assert reader.points("lr 0.1") == [(e.epoch, pytest.approx(e.accuracy)) for e in history]
    best = reader.runs["lr 0.1"]
    assert best.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert best.data.tags["mlflow.user"] == "<b>Ada</b>"
    assert best.data.params["lr"] == "0.1"
    assert best.data.params["optimizer.nesterov"] == "false"
    assert "clip_norm" not in best.data.params  # it has no value
    assert best.info.status == "FINISHED"
    seconds = sum(epoch.seconds + epoch.test_seconds for epoch in history)
    assert best.info.end_time - best.info.start_time == pytest.approx(1000 * seconds, abs=2)
    assert any("_correct" in path for path in reader.files("lr 0.1", "figures"))
    failed = reader.runs["lr 0.001"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["lenet_sweep.error"] == "RuntimeError: no"


def test_a_database_beside_the_store_has_a_run_per_cell(made: Sweep) -> None:
    """Without a server, MLflow opens the database in the output folder."""
    tracking.write_sweep("mlflow", made)
    assert_written(read(made), made)
    assert (made.store.out / "mlflow-artifacts").is_dir()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_writing_twice_changes_nothing(made: Sweep) -> None:
    """No run and no point appears a second time."""
    tracking.write_sweep("mlflow", made)
    first = read(made).content()
    tracking.write_sweep("mlflow", load_sweep(made.folder))
    assert read(made).content() == first


def test_a_resumed_sweep_continues_its_runs(made: Sweep) -> None:
    """Another process adds only the epochs that are missing, to the same run."""
    sweep = collect.tracked_sweep(made.folder, made.manifest)
    cell = next(collect.tracked_cells(made))
    first = MlflowTracker()
    first.open(sweep)
    first.log(replace(cell, history=cell.history[:1], status="running", figures=()))
    before = read(made)
    assert before.runs["lr 0.1"].info.status == before.runs["it"].info.status == "RUNNING"
    first.log(replace(cell, history=cell.history[:2], status="unfinished", figures=()))
    first.close([], complete=False)
    between = read(made)
    assert between.runs["lr 0.1"].info.status == between.runs["it"].info.status == "KILLED"
    tracking.write_sweep("mlflow", made)
    after = read(made)
    assert after.runs["lr 0.1"].info.run_id == before.runs["lr 0.1"].info.run_id
    assert_written(after, made)


def test_changed_results_replace_a_run(made: Sweep) -> None:
    """After a cell was trained again, its run does not mix old and new epochs."""
    tracker = MlflowTracker()
    tracker.open(collect.tracked_sweep(made.folder, made.manifest))
    cell = next(collect.tracked_cells(made))
    tracker.log(replace(cell, history=(Epoch(1, 2.0, 5.0, 2.0, 1.0, 0.1),), status="failed"))
    tracking.write_sweep("mlflow", made)
    assert_written(read(made), made)


def test_results_that_change_during_a_launch_replace_a_run(made: Sweep) -> None:
    """With reuse=false, the first call has no epochs yet; the new ones replace the old run."""
    tracking.write_sweep("mlflow", made)
    cell = next(collect.tracked_cells(made))
    tracker = MlflowTracker()
    tracker.open(collect.tracked_sweep(made.folder, made.manifest))
    changed = tuple(replace(epoch, accuracy=epoch.accuracy - 1) for epoch in cell.history)
    for count in range(4):
        tracker.log(replace(cell, history=changed[:count], status="running", figures=()))
    after = read(made)
    assert after.points("lr 0.1") == [(e.epoch, pytest.approx(e.accuracy)) for e in changed]
    assert after.points("lr 0.1", "train_loss") == [
        (e.epoch, pytest.approx(e.cost)) for e in changed
    ]
    assert after.runs["lr 0.1"].data.params["lr"] == "0.1"


def test_a_received_sweep_creates_no_database_elsewhere(
    made: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store in a sweep.json must have runs and contain the sweep."""
    values = read_json(made.folder / "sweep.json")
    assert values
    (tmp_path / "other" / "runs").mkdir(parents=True)
    (tmp_path / "empty" / "it").mkdir(parents=True)
    for store, folder in (("other", made.folder), ("empty", tmp_path / "empty" / "it")):
        write_json(folder / "sweep.json", {**values, "store": str(tmp_path / store)})
        assert track([str(folder), "--to", "mlflow"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: tracker mlflow: {folder / 'sweep.json'}: the store ")
        assert "set MLFLOW_TRACKING_URI" in error
        assert error.count("\n") == 1
        assert not (tmp_path / store / "mlflow.db").exists()


def test_the_page_is_not_sent_to_a_server(
    made: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the commands, the host and folders. In a database beside the store, it is kept."""
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of such a database
    (made.folder / "report.html").write_text("python -m lenet_sweep out=/home/ada")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made.store.out / 'mlflow.db'}")
    tracking.write_sweep("mlflow", made)
    assert "report.html" not in read(made).files("it")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    tracking.write_sweep("mlflow", made)
    assert "report.html" in read(made).files("it")


def test_an_experiment_that_cannot_be_created_is_explained(
    made: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is that of MLflow."""
    from mlflow import MlflowClient  # noqa: PLC0415 - see above
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see above

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("permission denied")

    monkeypatch.setattr(MlflowClient, "create_experiment", refuse)
    with pytest.raises(MlflowException, match="permission denied"):
        MlflowTracker().open(collect.tracked_sweep(made.folder, made.manifest))


@pytest.mark.parametrize("hangs", [False, True])
def test_a_server_that_does_not_answer_does_not_affect_the_sweep(
    tmp_path: Path,
    small_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    hangs: bool,
    dead_url: str,
) -> None:
    """The table is complete, one line says what to do, and the address is recorded nowhere."""
    monkeypatch.setattr(tracking, "LIMITS", tracking.Limits(total=600, call=600 - 599 * hangs))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    root, out = small_folder(), tmp_path / "out"
    cells, options = made_sweeps.settings(root, out, tracker="mlflow", figures="none", report=False)
    made_sweeps.store_all(cells, out, root, lambda _: [0])
    messages: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}" if hangs else dead_url.rstrip("/")
        url = url.replace("//", f"//ada:{SECRET}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        result, _ = write_outputs(made_sweeps.launched(cells, options), options, messages.append)
    assert result.exit_status == 0
    (line,) = messages
    assert line.startswith("tracker mlflow: ")
    assert line.endswith(f"python -m lenet_sweep.track {result.sweep.folder} --to mlflow")
    for text in [line, *(p.read_text(errors="replace") for p in out.rglob("*") if p.is_file())]:
        assert SECRET not in text


@pytest.mark.slow
def test_no_usage_data_is_sent(tmp_path: Path) -> None:
    """MLflow creates no client for its telemetry."""
    code = (
        "import pathlib; from lenet_sweep.track import TrackedSweep, mlflow\n"
        "folder = pathlib.Path('.'); sweep = TrackedSweep(folder, folder, 'id', 0.0, '', ())\n"
        "mlflow.MlflowTracker().open(sweep)\n"
        "from mlflow.telemetry import get_telemetry_client, utils\n"
        "assert not utils._IS_IN_CI_ENV_OR_TESTING  # which switches it off, too\n"
        "assert get_telemetry_client() is None\n"
    )
    outside = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "SYSTEMROOT", "TEMP")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=outside, check=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real MLflow server."""
    if find_spec("flask") is None:
        pytest.skip("requires mlflow, not only mlflow-skinny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=60)  # noqa: S310 - our own
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                pytest.fail((folder / "log").read_text())
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_server_gets_the_sweep(
    tmp_path: Path,
    small_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
) -> None:
    """With MLFLOW_TRACKING_URI, runs and files are on the server; repeating changes nothing."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    made = made_sweeps.tracked(small_folder(), tmp_path / "out", person="<b>Ada</b>")
    tracking.write_sweep("mlflow", made)
    first = Reader(server)
    assert_written(first, made)
    tracking.write_sweep("mlflow", made)
    assert Reader(server).content() == first.content()
    assert not (made.store.out / "mlflow.db").exists()
