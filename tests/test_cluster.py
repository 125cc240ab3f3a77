"""What a launch does if the scheduler of a cluster rejects jobs; the scheduler is a fake."""

from pathlib import Path

import pytest
from clusters import small_runs

from lenet_sweep.core.events import Finished
from lenet_sweep.executors import cluster
from lenet_sweep.executors.cluster import RejectedError
from lenet_sweep.executors.job import Journal


class FakeScheduler:
    """A `ClusterBackend` whose jobs end at once; it rejects the submissions with these numbers."""

    name = job_name = "fake"
    poll_interval = 0.0
    survives_launch = False
    runs_per_job = threads = 1

    def __init__(self, rejected: set[int]) -> None:
        self.rejected = rejected
        self.submissions = 0

    def connect(self, context) -> None:
        pass

    def free_slots(self, jobs: int) -> int:
        return 1 - jobs

    def submit(self, payloads) -> list[str]:
        self.submissions += 1
        if self.submissions in self.rejected:
            raise RejectedError("too many jobs")
        for payload in payloads:
            for task in payload["tasks"]:
                run_id = Path(task["journal"]).name.partition("-")[0]
                Journal(Path(task["journal"])).append(Finished(run_id))
        return [f"{self.submissions}.{number}" for number in range(len(payloads))]

    def finished(self, jobs) -> dict:
        return {}

    def describe_pending(self, jobs) -> str:
        return ""

    def cancel(self, jobs) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def describe_remaining(self, jobs) -> str:
        return ""


@pytest.fixture
def two_runs(tmp_path, small_folder):
    return small_runs(tmp_path, small_folder(), lr=[0.1, 0.2])


def test_the_first_jobs_that_are_rejected_end_the_launch(two_runs) -> None:
    """The mistake is probably in the options, such as a partition that does not exist."""
    runs, context = two_runs
    with pytest.raises(RejectedError, match="too many jobs"):
        list(cluster.execute(runs, context, FakeScheduler({1})))


def test_jobs_that_are_rejected_for_long_end_the_launch(two_runs, monkeypatch) -> None:
    """For example, the budget of the account may be used up."""
    monkeypatch.setattr(cluster, "RESUBMIT_AFTER", 0.0)
    monkeypatch.setattr(cluster, "REJECTED_AT_MOST", 0.0)
    runs, context = two_runs
    events = cluster.execute(runs, context, FakeScheduler({2}))
    assert next(events) == Finished(runs[0].id)
    with pytest.raises(RejectedError, match="too many jobs"):
        list(events)


def test_jobs_of_a_later_round_are_submitted_again(two_runs, monkeypatch) -> None:
    """A scheduler that has accepted jobs may be busy at the start of a round of a search."""
    monkeypatch.setattr(cluster, "RESUBMIT_AFTER", 0.0)
    runs, context = two_runs
    scheduler = FakeScheduler({2, 3})
    for run in runs:
        assert list(cluster.execute([run], context, scheduler)) == [Finished(run.id)]
    assert scheduler.submissions == 4
