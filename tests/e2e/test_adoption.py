"""Daemons that are killed, stopped, upgraded; nodes that come back; starters that die. Jobs are undisturbed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from spool_layout.events import Ended, Started
from tests.e2e.cluster import Cluster, running, sleepers

LONG = """\
resources: {{accelerators: H100:1}}
run: |
  echo began on $CUDA_VISIBLE_DEVICES
  {gate}
  echo done
  exit 5
...
"""


def once_each(cluster: Cluster) -> None:
    """Every job that started did so once, and ended once."""
    for kind in (Started, Ended):
        ids = [event.id for event in cluster.events() if isinstance(event, kind)]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
@pytest.mark.parametrize("victims", [["n1"], ["head"], ["head", "n1"]], ids="+".join)
def test_jobs_run_on_and_are_adopted_with_their_exit_code(one_node: Cluster, victims: list[str], number: int) -> None:
    inside, outside = one_node.gate(), one_node.gate()
    first = one_node.add("first.yaml", LONG.format(gate=outside))
    second = one_node.add("second.yaml", LONG.format(gate=inside))
    one_node.runs(first, second)
    pids = [pid for ident in (first, second) if (job := one_node.job(ident)) for pid in job.pids]
    for victim in victims:
        one_node.kill(victim, number)
    one_node.drop("while-away.yaml", "resources: {accelerators: H100:2}\nrun: echo $CUDA_VISIBLE_DEVICES\n...\n")
    outside.open()  # the first job ends while they are away, the second after they are back
    one_node.eventually(lambda: one_node.log(first).endswith("done\n"))
    for victim in victims:
        one_node.head() if victim == "head" else one_node.node("n1", "H100:4")
    third = first + 2
    assert one_node.ended(first, third) == ["FAILED", "SUCCEEDED"]
    assert one_node.statuses()[second] == "RUNNING"
    assert [os.kill(pid, 0) for pid in pids[1:]] == [None]
    inside.open()
    assert one_node.ended(second) == ["FAILED"]
    assert [one_node.reason(ident) for ident in (first, second)] == ["run ended with exit code 5"] * 2
    assert [one_node.log(ident) for ident in (first, second)] == [f"began on {n}\ndone\n" for n in (0, 1)]
    once_each(one_node)
    one_node.sound()


def test_after_a_stop_the_starter_ends_by_itself_when_its_last_job_has(one_node: Cluster) -> None:
    gate = one_node.gate()
    ident = one_node.add("last.yaml", f"run: |\n  {gate}\n  echo done\n...\n")
    one_node.runs(ident)
    one_node.kill("n1", signal.SIGTERM)
    assert [*one_node.starters()] == ["n1"]
    gate.open()
    one_node.eventually(lambda: one_node.starters() == {}, 5)
    assert one_node.log(ident) == "done\n"
    one_node.node("n1", "H100:4")
    assert one_node.ended(ident) == ["SUCCEEDED"]


def test_a_stopped_node_keeps_its_jobs_however_long_it_is_away(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="1.5s", fence_margin="0.5s", heartbeat="0.2s") as cluster:
        cluster.head().node("n1").ready()
        gate = cluster.gate()
        ident = cluster.add("job.yaml", f"run: |\n  {gate}\n  exit 3\n...\n")
        cluster.runs(ident)
        cluster.kill("n1", signal.SIGTERM)
        cluster.eventually(lambda: cluster.state().nodes["n1"].state == "down", 5)
        assert cluster.statuses()[ident] == "RUNNING"
        gate.open()
        cluster.node("n1")
        assert cluster.ended(ident) == ["FAILED"]
        assert cluster.reason(ident) == "run ended with exit code 3"


def test_orders_that_come_again_and_again_start_an_attempt_once(one_node: Cluster) -> None:
    one_node.warm()
    proof = one_node.folder / "proof"
    for number in range(20):
        one_node.drop(f"{number}.yaml", f"run: echo $SKYSPOOL_ATTEMPT >> {proof}\n...\n")
    [orders] = one_node.folder.glob("state/*/node-n1/orders")  # the FIFO from runner to starter: one key a line
    fifo = os.open(orders, os.O_WRONLY)
    text = "".join(f"{ident}.1\n" for ident in range(2, 22)).encode()
    try:
        while one_node.state().finished < 21:
            os.write(fifo, text)
            time.sleep(0.002)
    finally:
        os.close(fifo)
    assert sorted(proof.read_text().split()) == sorted(f"{ident}.1" for ident in range(2, 22))


def supervisor_of(cluster: Cluster, ident: int) -> int:
    """The process whose child the job's shell is."""
    job = cluster.job(ident)
    assert job is not None
    return int(Path(f"/proc/{job.pids[0]}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_killed_starter_disturbs_no_job_and_the_next_one_starts(one_node: Cluster) -> None:
    gate = one_node.gate()
    ident = one_node.add("job.yaml", LONG.format(gate=gate))
    one_node.runs(ident)
    os.kill(one_node.starters()["n1"], signal.SIGKILL)
    one_node.eventually(lambda: not one_node.starters())
    assert one_node.ended(one_node.add("next.yaml", "run: echo hi\n...\n")) == ["SUCCEEDED"]
    assert one_node.statuses()[ident] == "RUNNING"
    gate.open()
    assert one_node.ended(ident) == ["FAILED"]
    assert one_node.reason(ident) == "run ended with exit code 5"


@pytest.mark.parametrize("also", [[], ["n1"]], ids=["alone", "with its runner"])
def test_a_job_whose_supervisor_is_killed_is_failed_driver_ended_and_its_gpus_are_free(
    one_node: Cluster, also: list[str]
) -> None:
    number = 9601 + len(also)
    run = f"setsid sleep {number} & sleep {number}"
    victim = one_node.add("victim.yaml", f"resources: {{accelerators: H100:4}}\nrun: {run}\n...\n")
    other = one_node.add("other.yaml", "run: sleep 9603\n...\n")
    waiting = one_node.add("next.yaml", "resources: {accelerators: H100:4}\nrun: echo $CUDA_VISIBLE_DEVICES\n...\n")
    one_node.runs(victim, other)
    one_node.eventually(lambda: len(sleepers(number)) == 2)
    os.kill(supervisor_of(one_node, victim), signal.SIGKILL)
    for key in also:
        one_node.kill(key)
        one_node.node(key, "H100:4")
    assert one_node.ended(victim) == ["FAILED_DRIVER"]
    assert sleepers(number) == []
    assert one_node.ended(waiting) == ["SUCCEEDED"]
    assert "outcome is unknown" in one_node.reason(victim)
    assert one_node.sky("logs", str(victim), "--status", check=100).stdout == f"Job {victim}: FAILED_DRIVER\n"
    assert one_node.log(waiting) == "0,1,2,3\n"
    assert one_node.statuses()[other] == "RUNNING"
    one_node.sky("cancel", str(other))
    assert one_node.ended(other) == ["CANCELLED"]
    one_node.sound()


def test_a_node_that_comes_back_gets_work_again_and_a_new_incarnation(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="1.5s", fence_margin="0.5s", heartbeat="0.2s") as cluster:
        cluster.head().node("n1", "H100:1").ready()
        before = cluster.state().nodes["n1"].incarnation
        cluster.kill("n1")
        cluster.eventually(lambda: cluster.state().nodes["n1"].state == "down", 5)
        ident = cluster.add("job.yaml", "resources: {accelerators: H100:1}\nrun: echo hi\n...\n")
        time.sleep(0.3)  # in which nothing may be given to it
        assert cluster.statuses()[ident] == "PENDING"
        assert "n1 is" in cluster.sky("why", str(ident)).stdout
        cluster.node("n1", "H100:1")
        assert cluster.ended(ident) == ["SUCCEEDED"]
        assert cluster.state().nodes["n1"].incarnation > before
        cluster.sound()


def leader(cluster: Cluster) -> str:
    """The key of the head that leads; "" while none says so. A frozen one goes on saying that it did."""
    told = [json.loads(path.read_text()) for path in Path(cluster.spool.heads).glob("*.json")]
    leading = max((status for status in told if status["role"] == "leading"), key=lambda s: s["epoch"], default=None)
    return next((key for key, p in cluster.processes.items() if leading and p.pid == leading["pid"]), "")


def test_a_frozen_head_that_wakes_up_stands_by_and_harms_nothing(tmp_path: Path) -> None:
    with running(tmp_path, lock_heartbeat="0.2s", lock_threshold="0.6s") as cluster:
        cluster.head("head1").head("head2").node("n1", "H100:4").ready()
        proof = tmp_path / "proof"
        text = f"resources: {{accelerators: H100:0.5}}\nrun: echo $SKYSPOOL_JOB_ID >> {proof}\n...\n"

        def drop_eight() -> None:
            for name in (f"{number}.yaml" for number in range(8)):
                path = Path(cluster.spool.pending, name)
                cluster.eventually(lambda path=path: not path.exists())  # else mv would take its place
                cluster.drop(name, text)

        for _ in range(3):
            cluster.eventually(lambda: leader(cluster))
            frozen = leader(cluster)
            drop_eight()
            cluster.processes[frozen].send_signal(signal.SIGSTOP)
            cluster.eventually(lambda frozen=frozen: leader(cluster) not in ("", frozen))
            drop_eight()  # under names that the frozen one may be about to move
            cluster.processes[frozen].send_signal(signal.SIGCONT)
        cluster.eventually(lambda: cluster.state().finished == 48)
        assert set(cluster.statuses().values()) == {"SUCCEEDED"}
        assert sorted(proof.read_text().split(), key=int) == [str(n) for n in range(1, 49)]
        once_each(cluster)
        cluster.sound()


def test_a_frozen_runner_that_wakes_up_ends_what_was_given_up_and_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="3s", fence_margin="1s", heartbeat="0.3s") as cluster:
        cluster.head().node("n1", "H100:1").ready()
        ident = cluster.add("job.yaml", "resources: {accelerators: H100:1}\nrun: sleep 9606\n...\n")
        cluster.runs(ident)
        before = cluster.state().nodes["n1"].incarnation
        cluster.processes["n1"].send_signal(signal.SIGSTOP)
        assert cluster.ended(ident) == ["FAILED"]
        following = cluster.add("next.yaml", "resources: {accelerators: H100:1}\nrun: echo hi\n...\n")
        assert cluster.statuses()[following] == "PENDING"
        assert len(sleepers(9606)) == 1
        cluster.processes["n1"].send_signal(signal.SIGCONT)
        assert cluster.ended(following) == ["SUCCEEDED"]
        assert sleepers(9606) == []
        assert cluster.state().nodes["n1"].incarnation > before  # one more for each time that it was given up
        cluster.sound()


def test_a_job_that_asked_for_it_runs_again_elsewhere_and_never_in_two_places(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="3s", fence_margin="1s", heartbeat="0.3s") as cluster:
        cluster.head().node("n1", "H100:1").ready()
        proof = cluster.folder / "proof"
        run = f"trap 'echo end $SKYSPOOL_ATTEMPT >> {proof}' EXIT; echo begin $SKYSPOOL_ATTEMPT >> {proof}; sleep $SECS"
        text = (
            "resources: {accelerators: H100:1, job_recovery: failover}\n"
            f"run: |\n  SECS=$([ $SKYSPOOL_ATTEMPT = 1.1 ] && echo 9604 || echo 0)\n  {run}\n...\n"
        )
        ident = cluster.add("again.yaml", text)
        cluster.runs(ident)
        cluster.kill("n1")
        cluster.node("n2", "H100:1")
        assert cluster.ended(ident) == ["SUCCEEDED"]
        job = cluster.job(ident)
        assert job and (job.attempt, [a.node for a in job.allocations]) == (2, ["n2"])
        assert [line for line in proof.read_text().split("\n") if line] == ["begin 1.1", "begin 1.2", "end 1.2"]
        assert sleepers(9604) == []  # the node's starter killed it before the head gave it up
        cluster.sound()


def test_a_head_by_cron_packs_away_the_events_of_earlier_ones(cluster: Cluster) -> None:
    cluster.head().node("n1").ready()
    gate = cluster.gate()
    ident = cluster.add("job.yaml", f"run: {gate}\n...\n")
    cluster.runs(ident)
    cluster.kill("head", signal.SIGTERM)
    for _ in range(4):
        assert cluster.once("head").returncode == 0
    assert len(list(Path(cluster.spool.events).glob("*.jsonl"))) <= 2
    assert cluster.statuses() == {ident: "RUNNING"}
    gate.open()
    cluster.head()
    assert cluster.ended(ident) == ["SUCCEEDED"]
    once_each(cluster)
    cluster.sound()


def test_a_second_runner_of_a_name_is_refused_naming_the_first(one_node: Cluster) -> None:
    second = one_node.once("node", "--name", "n1", "--gpus", "none")
    assert second.returncode != 0
    assert f"pid {one_node.processes['n1'].pid}" in second.stderr
    assert "--name" in second.stderr
