"""Failures specific to Ray, such as lost nodes and workers, on a real cluster of two nodes."""

import os
import signal
import sys
from pathlib import Path

import pytest
from clusters import TargetExecutor, interrupt, ray_options, start_executor
from processes import linux

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import FINAL_EVENTS, EpochEnded, Failed, Finished, Retrying, Started
from lenet_sweep.executors import cluster as cluster_module
from lenet_sweep.executors import ray
from lenet_sweep.storage.files import lock_file
from lenet_sweep.storage.store import Store

pytestmark = [linux, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> TargetExecutor:
    with start_executor("ray", tmp_path_factory.mktemp("ray")) as target:
        yield target


def task_processes() -> list[int]:
    """The process ids of Ray workers that execute our tasks."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::lenet-sweep" in path.read_bytes():
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


@pytest.mark.parametrize("retries", [0, 1])
def test_a_lost_worker(cluster, runs_of, retries) -> None:
    """A run whose Ray process is killed is retried from its checkpoint, or fails without
    retries.
    """
    runs, context = runs_of(epochs=[2, 400], retries=retries)
    seen = []
    for event in cluster.executor.execute(runs, context):
        seen.append(event)
        if isinstance(event, EpochEnded) and event.result.epoch == 5 and len(seen) < 20:
            for pid in task_processes():
                os.kill(pid, signal.SIGKILL)
    (lost,) = (event for event in seen if isinstance(event, (Failed, Retrying)))
    assert lost.failure.status == "killed"
    assert lost.failure.reason == "the process of its Ray task died, or its node was lost"
    assert Store(context.out).run_folder(runs[0].id).has_intact_snapshot(2)
    if retries:
        assert isinstance(seen[-1], Finished)
        assert [event.epoch for event in seen if isinstance(event, Started)][1] >= 2
    else:
        assert isinstance(seen[-1], Failed)


def test_a_lost_node(cluster, runs_of) -> None:
    """Runs on a node that is removed resume from their checkpoints on another one."""
    node = cluster.cluster.add_node(num_cpus=2, resources={"extra": 2})
    executor = ray.create(ray_options(address=cluster.cluster.address))
    runs, context = runs_of(seed=[0, 1, 2, 3], epochs=[2, 400], retries=1, workers=4)
    seen = []
    removed = False
    for event in executor.execute(runs, context):
        seen.append(event)
        trained = {e.run_id for e in seen if isinstance(e, EpochEnded) and e.result.epoch > 4}
        if len(trained) == 4 and not removed:
            removed = True
            cluster.cluster.remove_node(node)
    ended = {event.run_id: event for event in seen if isinstance(event, FINAL_EVENTS)}
    assert {type(end) for end in ended.values()} == {Finished}
    assert len(ended) == 4
    assert [event for event in seen if isinstance(event, Retrying)]
    assert all(event.epoch == 0 or event.epoch >= 2 for event in seen if isinstance(event, Started))


def test_a_search_connects_once(cluster, runs_of) -> None:
    """Ray keeps running between the rounds, and stops after the last one or an interruption."""
    import ray as ray_package  # noqa: PLC0415 - an optional extra

    runs, context = runs_of(epochs=1)
    with cluster.executor.session():
        list(cluster.executor.execute(runs, context))
        assert ray_package.is_initialized()
    assert not ray_package.is_initialized()
    runs, context = runs_of(epochs=300, seed=1)
    with cluster.executor.session():
        for event in cluster.executor.execute(runs, context):
            if isinstance(event, EpochEnded):
                interrupt(context)
        assert not ray_package.is_initialized()


def test_only_journals_of_ended_launches_are_removed(cluster, runs_of) -> None:
    """A launch does not remove journals that another launch is reading."""
    runs, context = runs_of()
    jobs = context.out / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "abc-0000-1.journal").touch()
    (jobs / "0000.launch").touch()
    (jobs / "abc-1111-1.journal").touch()
    living = lock_file(jobs / "1111.launch", timeout=0)
    assert isinstance(list(cluster.executor.execute(runs, context))[-1], Finished)
    living.release()
    assert sorted(path.name for path in jobs.iterdir()) == ["1111.launch", "abc-1111-1.journal"]


def test_tasks_that_no_node_can_run_are_explained(cluster, runs_of, monkeypatch) -> None:
    """If no node has the requested resources, a line says so; Ray alone would wait silently."""
    monkeypatch.setattr(cluster_module, "REPORT_PENDING_AFTER", 0.5)
    resources = ray_options(address=cluster.cluster.address, gpus=1)
    runs, context = runs_of()
    lines = []

    def on_message(line: str) -> None:
        lines.append(line)
        interrupt(context)

    object.__setattr__(context, "on_message", on_message)
    assert list(ray.create(resources).execute(runs, context)) == []
    assert lines == ["1 Ray task pending: no node of the cluster has CPU 1, GPU 1"]


def test_an_address_without_ray_is_an_error(runs_of) -> None:
    """The error names the address."""
    executor = ray.create(ray_options(address="127.0.0.1:1"))
    runs, context = runs_of()
    with pytest.raises(
        UsageError, match="hydra.launcher.address=127.0.0.1:1: cannot connect to Ray"
    ):
        list(executor.execute(runs, context))


def test_a_missing_ray_names_the_command_to_install_it(monkeypatch) -> None:
    """If the extra is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'lenet-sweep\[ray\]'"):
        ray.check()
