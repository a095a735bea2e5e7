"""`spoold head --once`: what one run heard is known to the next one on its host, until that is rebooted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spool_layout import history
from spool_layout.records import Gpu, NodeStatus, encode
from spool_layout.storage import Disk
from spoold.core import hearing
from spoold.head import listen, loop
from spoold.head.loop import Head
from tests.e2e.cluster import Cluster

TIMEOUT = 30.0  # seconds: T
TASK = "resources: {accelerators: H100:1}\nrun: echo\n...\n"
Run = Callable[[float], str]


class Clock:
    """The clocks of a host whose runs lie minutes apart, in no time. Files have real times: nothing here is judged by
    them but that a report is young when it is seen first."""

    CLOCK_BOOTTIME, time_ns = time.CLOCK_BOOTTIME, staticmethod(time.time_ns)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def clock_gettime(self, clock: int) -> float:
        assert clock == self.CLOCK_BOOTTIME
        return self.now + 5000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A spool with a job, and a node that beats no more once it has taken it."""
    cluster = Cluster(tmp_path, node_timeout=f"{TIMEOUT:g}s", fence_margin="5s", heartbeat="1s")
    status = NodeStatus(
        1, "n1", "h1", 1, 1, 1.0, gpus=[Gpu("u", 0, "H100")], cpus_milli=4000, memory_mb=4096, address="127.0.0.1"
    )
    disk = Disk()
    disk.make_dir(cluster.spool.node("n1"))
    disk.publish(cluster.spool.status("n1"), encode(status))
    Path(cluster.spool.dropped("a.yaml")).write_text(TASK)
    return cluster


@pytest.fixture
def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """One run of cron's, so many seconds after the one before: what the node is then."""
    clock = Clock()
    for module in (loop, listen):
        monkeypatch.setattr(module, "time", clock)

    def once(seconds: float) -> str:
        clock.now += seconds
        head = Head(cluster.spool.root, state=str(cluster.folder / "state"), once=True)
        try:
            assert head.once() == 0
        finally:
            head.waker.close()
        return history.read_present(cluster.spool, Disk()).state.nodes["n1"].state

    return once


def test_a_node_that_no_longer_beats_is_given_up_by_runs_that_each_see_it_once(cluster: Cluster, run: Run) -> None:
    assert [run(0), run(20), run(6), run(6)] == ["up", "up", "lost contact", "down"]
    (job,) = history.read_present(cluster.spool, Disk()).state.ended.values()
    assert (job.status, job.reason) == ("FAILED", "lost contact with node n1")


def test_in_another_boot_what_was_heard_is_not_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [run(0), run(20)] == ["up", "up"]
    monkeypatch.setattr(loop, "boot_id", lambda: "the next boot")
    assert [run(20), run(20), run(11)] == ["up", "up", "down"], "it is heard anew, for as long as any other node"


def test_time_in_which_no_run_could_look_counts_for_nobody(run: Run) -> None:
    """Cron runs it each minute. What is beyond that a file server may have held up, and the nodes just as well."""
    assert [run(0), run(20)] == ["up", "up"]
    assert run(3600) == "down", "the minute counts: it is longer than T"


def test_and_a_node_with_a_longer_limit_is_not_missed_for_it(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing.Hearing, "limit", lambda *_: 180.0)
    assert [run(0), run(60), run(3600), run(56), run(5)] == ["up", "up", "up", "lost contact", "down"]
