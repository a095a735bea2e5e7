"""No daemon at all: `spoold head --once` and `spoold node --once`, as cron runs them, take jobs to their ends."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from spool_layout.events import Started
from tests.e2e.cluster import Cluster, sleepers

NODES = {"n1": "H100:1", "n2": "H100:1"}


def minute(cluster: Cluster) -> None:
    """What cron does on three hosts in one minute: two nodes, and a head some times while they are at it."""
    words = [["node", "--name", name, "--gpus", gpus, "--cpus", "4"] for name, gpus in NODES.items()]
    lines = [cluster.spoold(*line, "--once") for line in words]
    nodes = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for line in lines]
    while any(node.poll() is None for node in nodes):
        head = cluster.once("head")
        assert head.returncode == 0, head.stderr
    for node in nodes:
        _, told = node.communicate(timeout=60)
        assert node.returncode == 0, told


def until(cluster: Cluster, holds: Callable[[], object], minutes: int = 15) -> None:
    """Let minutes pass until something holds."""
    for _ in range(minutes):
        if holds():
            return
        minute(cluster)
    raise AssertionError(cluster.story())


def test_gangs_setup_and_failures_by_cron_alone(cluster: Cluster) -> None:
    gang = "num_nodes: 2\nresources: {accelerators: H100:1}\n"
    stages = "setup: echo up $SKYPILOT_SETUP_NODE_RANK\nrun: echo on $SKYPILOT_NODE_RANK\n...\n"
    cluster.drop("1-gang.yaml", f"{gang}{stages}")
    until(cluster, lambda: cluster.job(1))
    cluster.drop("2-fails.yaml", f"{gang}run: '[ $SKYPILOT_NODE_RANK = 0 ] || exit 4; sleep 9701'\n...\n")
    cluster.drop("3-setup.yaml", "setup: exit 3\nrun: echo RAN\n...\n")
    until(cluster, lambda: len(cluster.state().ended) == 3)
    assert cluster.statuses() == {1: "SUCCEEDED", 2: "FAILED", 3: "FAILED_SETUP"}
    assert [cluster.log(1, f"{rank}-{node}.log") for rank, node in enumerate(NODES)] == ["on 0\n", "on 1\n"]
    assert [cluster.log(1, f"setup-{rank}-{node}.log") for rank, node in enumerate(NODES)] == ["up 0\n", "up 1\n"]
    job = cluster.job(2)
    assert job is not None
    assert job.exit_codes == [137, 4]
    assert sleepers(9701) == []
    assert sorted(event.id for event in cluster.events() if isinstance(event, Started)) == [1, 2, 3]
    cluster.sound()


def test_jobs_that_outlive_many_runs_end_with_their_own_exit_code_or_by_cancel(cluster: Cluster) -> None:
    gate = cluster.gate()
    cluster.drop("1-long.yaml", f"resources: {{accelerators: H100:1}}\nrun: |\n  {gate}\n  exit 9\n...\n")
    until(cluster, lambda: cluster.job(1))
    cluster.drop("2-longer.yaml", "resources: {accelerators: H100:1}\nrun: sleep 9702\n...\n")
    until(cluster, lambda: all((job := cluster.job(ident)) and job.start_at for ident in (1, 2)))
    gate.open()
    assert cluster.sky("cancel", "2", "--async").stdout == "Cancellation requested: 2\n"
    until(cluster, lambda: cluster.statuses() == {1: "FAILED", 2: "CANCELLED"})
    assert cluster.reason(1) == "run ended with exit code 9"
    assert sleepers(9702) == []
    cluster.sound()


def test_a_head_that_finds_another_leading_says_so_and_ends_with_0(one_node: Cluster) -> None:
    done = one_node.once("head")
    assert (done.returncode, "another head leads" in done.stderr) == (0, True)
    assert one_node.ended(one_node.add("job.yaml", "run: echo hi\n...\n")) == ["SUCCEEDED"]
