"""No head is alive: everybody still submits and reads, is told so, and nothing that was dropped is lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.e2e.cluster import Cluster, running


def test_submitting_and_reading_without_a_head(tmp_path: Path) -> None:
    with running(tmp_path, lock_heartbeat="0.2s", lock_threshold="0.6s") as cluster:
        cluster.head().node("n1", "H100:1").ready()
        gate = cluster.gate()
        cluster.add("runs.yaml", f"resources: {{accelerators: H100:1}}\nrun: |\n  echo so far\n  {gate}\n...\n")
        cluster.add("waits.yaml", "resources: {accelerators: H100:1}\nrun: echo turn\n...\n")
        cluster.runs(1)
        cluster.kill("head")
        cluster.eventually(lambda: "no head is alive" in cluster.sky("queue").stderr)
        submitted = cluster.sky("exec", "mycluster", "-d", "-n", "late", "--", "echo late")
        handle = submitted.stdout.split()[-1]
        assert submitted.stdout == f"Job submitted, handle: {handle}\n"
        assert handle.startswith("late@")
        assert "the last sign of one was" in submitted.stderr
        every_verb_reads(cluster, handle)
        cluster.head()
        gate.open()
        assert cluster.ended(1, 2, 3) == ["SUCCEEDED"] * 3
        assert cluster.sky("logs", handle).stdout == "late\n"  # the handle goes on naming the job
        assert cluster.sky("logs", "late", "--status").stdout == "Job 3: SUCCEEDED\n"
        cluster.sound()


def every_verb_reads(cluster: Cluster, handle: str) -> None:
    """Each shows what is known, and says in one line on stderr how old that is."""
    queue = cluster.sky("queue")
    assert [line.split()[1] for line in queue.stdout.splitlines()[2:]] == ["late", "waits", "runs"]
    status, why = cluster.sky("status"), cluster.sky("why", "2")
    assert "n1" in status.stdout
    assert "H100" in why.stdout
    assert cluster.sky("logs", "1", "--no-follow").stdout == "so far\n"
    [late, *_] = json.loads(cluster.sky("queue", "-o", "json").stdout)["mycluster"]
    assert (late["job_id"], late["handle"], late["status"]) == (None, handle, "PENDING")
    for told in (queue, status, why):
        assert "is alive" in told.stderr + told.stdout


def test_jobs_dropped_before_any_daemon_ever_ran_get_the_first_ids_in_order(cluster: Cluster) -> None:
    for number in range(5):
        cluster.drop(f"{9 - number}.yaml", f"name: n{number}\nrun: echo {number}\n...\n")
    handles = [cluster.sky("exec", "-d", "--", f"echo by client {n}").stdout.split()[-1] for n in (1, 2)]
    assert cluster.sky("queue").stdout.count("PENDING") == 7
    cluster.head().node("n1").ready()
    assert cluster.ended(*range(1, 8)) == ["SUCCEEDED"] * 7
    assert [cluster.log(ident) for ident in range(1, 8)] == [
        *(f"{n}\n" for n in range(5)),
        *(f"by client {n}\n" for n in (1, 2)),
    ]
    assert [cluster.sky("logs", handle).stdout for handle in handles] == ["by client 1\n", "by client 2\n"]


def test_everything_known_survives_a_stop_of_all_daemons(one_node: Cluster) -> None:
    ids = [one_node.add(f"{n}.yaml", f"run: {run}\n...\n") for n, run in enumerate(("echo hi", "exit 3", "sleep 9801"))]
    one_node.runs(ids[2])
    one_node.sky("cancel", str(ids[2]))
    assert one_node.ended(*ids) == ["SUCCEEDED", "FAILED", "CANCELLED"]
    before = one_node.sky("queue", "-o", "json").stdout
    for key in ("head", "n1"):
        one_node.kill(key, signal.SIGTERM)
    assert one_node.sky("queue", "-o", "json").stdout == before
    one_node.head().node("n1", "H100:4").ready()
    assert one_node.sky("queue", "-o", "json").stdout == before
    assert one_node.add("next.yaml", "run: echo hi\n...\n") == ids[-1] + 1
