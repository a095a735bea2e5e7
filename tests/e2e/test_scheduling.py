"""Who runs when, with real daemons: fractions, whole GPUs, CPUs, memory, alternatives, and many submitters at once.

The numbers are those of SkyPilot's own smoke tests (test_job_queue, multi_gpu, large_job_queue, multi_echo).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.cluster import Cluster, Gate

SHOW = "echo $CUDA_VISIBLE_DEVICES / $SKYPILOT_NUM_GPUS_PER_NODE"


def task(gate: Gate | str, **resources: object) -> str:
    return f"resources: {json.dumps(resources)}\nrun: |\n  {SHOW}\n  {gate}\n...\n"


def test_halves_share_a_gpu_a_third_waits_and_runs_when_one_is_cancelled(cluster: Cluster) -> None:
    cluster.head().node("n1", "V100:1").ready()
    gate = cluster.gate()
    halves = [cluster.submit("--gpus", "v100:0.5", "--", str(gate)) for _ in range(3)]
    cluster.runs(*halves[:2])
    assert cluster.statuses()[3] == "PENDING"
    assert "waits for 0.5 V100" in cluster.sky("why", "3").stdout
    cluster.sky("cancel", "1")
    cluster.runs(3, seconds=5)
    assert {tuple(a.gpus.values()) for i in (2, 3) if (j := cluster.job(i)) for a in j.allocations} == {(500,)}
    cluster.sound()


def test_one_and_two_gpus_run_and_four_wait_and_then_get_four(one_node: Cluster) -> None:
    gate = one_node.gate()
    one, two, four = (one_node.add(f"{n}.yaml", task(gate, accelerators=f"H100:{n}")) for n in (1, 2, 4))
    one_node.runs(one, two)
    assert one_node.statuses()[four] == "PENDING"
    gate.open()
    assert one_node.ended(one, two, four) == ["SUCCEEDED"] * 3
    seen = [one_node.log(i).split()[0].split(",") for i in (one, two, four)]
    assert [len(ids) for ids in seen] == [1, 2, 4]
    assert not {*seen[0]} & {*seen[1]}
    one_node.sound()


def test_every_form_of_accelerators_is_taken_and_the_first_that_fits_is_used(cluster: Cluster) -> None:
    cluster.head().node("n1", "A100:2,V100:1").ready()
    forms = {
        "list": (task("", accelerators=["H100:1", "A100:2"]), "0,1 / 2"),
        "set": ("resources:\n  accelerators: {H100:1, V100:1}\nrun: " + SHOW + "\n...\n", "2 / 1"),
        "mapping": (task("", accelerators={"a100": 1}), "0 / 1"),
        "gpus": (task("", gpus="A100"), "0 / 1"),
        "any_of": (task("", any_of=[{"accelerators": "H100:1"}, {"accelerators": "V100:1"}]), "2 / 1"),
        "ordered": (task("", ordered=[{"accelerators": "V100:1"}, {"accelerators": "A100:1"}]), "2 / 1"),
        "fifth": (task("", accelerators="A100:0.2"), "0 / 1"),
    }
    for form, (text, shown) in forms.items():
        ident = cluster.add(f"{form}.yaml", text)
        assert (form, cluster.ended(ident)) == (form, ["SUCCEEDED"])
        assert (form, cluster.log(ident)) == (form, f"{shown}\n")
    cluster.sound()


def test_memory_and_cpus_are_not_oversubscribed(one_node: Cluster) -> None:
    gate = one_node.gate()  # the node has 8 CPUs and 64 GB
    large, wide = one_node.add("large.yaml", task(gate, memory="40+")), one_node.add("wide.yaml", task(gate, cpus=7))
    more_memory = one_node.add("memory.yaml", task(gate, memory=25))
    more_cpus = one_node.add("cpus.yaml", task(gate, cpus="1+"))
    small = one_node.add("small.yaml", task(gate, memory=24, cpus=0.25))
    one_node.runs(large, wide, small)
    assert [one_node.statuses()[i] for i in (more_memory, more_cpus)] == ["PENDING"] * 2
    gate.open()
    assert one_node.ended(more_memory, more_cpus) == ["SUCCEEDED"] * 2


def test_of_75_cpu_jobs_exactly_16_run_on_8_cpus_in_order(cluster: Cluster) -> None:
    cluster.head().node("n1", cpus=8).ready()
    gate = cluster.gate()
    for number in range(75):
        cluster.drop(f"job{number:02}.yaml", f"run: {gate}\n...\n")

    def running() -> list[int]:
        return [ident for ident, status in cluster.statuses().items() if status == "RUNNING"]

    cluster.eventually(lambda: len(cluster.state().jobs) == 75)
    cluster.runs(*range(1, 17))
    assert running() == [*range(1, 17)]
    assert [job.name for job in cluster.state().known()] == [f"job{number:02}" for number in range(75)]
    cluster.sky("cancel", *map(str, range(1, 17)))
    cluster.runs(*range(17, 33))
    assert running() == [*range(17, 33)]
    assert cluster.ended(*range(1, 17)) == ["CANCELLED"] * 16
    cluster.sky("cancel", *map(str, range(40, 45)))
    gate.open()
    rest = [ident for ident in range(17, 76) if not 40 <= ident < 45]
    assert set(cluster.ended(*rest, seconds=40)) == {"SUCCEEDED"}
    assert cluster.ended(*range(40, 45)) == ["CANCELLED"] * 5
    assert not any(Path(cluster.spool.log_dir(ident)).exists() for ident in range(40, 45))
    cluster.sound()


def test_32_submitters_at_once_get_32_ids_and_all_jobs_succeed(cluster: Cluster) -> None:
    cluster.head().node("n1", cpus=8).ready()
    gate = cluster.gate()
    words = [sys.executable, "-m", "skyspool", "exec", "mycluster", "-d"]
    clients = [
        subprocess.Popen(
            [*words, "-n", f"by-{number}", "--", str(gate)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": str(cluster.home)},
            cwd=cluster.folder,
        )
        for number in range(32)
    ]
    told = [client.communicate(timeout=60)[0] for client in clients]
    ids = [int(words.rpartition("ID: ")[2]) for words in told]
    assert sorted(ids) == [*range(1, 33)]
    cluster.runs(*range(1, 17))
    names = {job.id: job.name for job in cluster.state().known()}
    assert [names[ident] for ident in ids] == [f"by-{number}" for number in range(32)]
    gate.open()
    assert set(cluster.ended(*ids, seconds=60)) == {"SUCCEEDED"}
    records = json.loads(cluster.sky("queue", "mycluster", "-o", "json").stdout)["mycluster"]
    assert [record["job_id"] for record in records] == [*range(32, 0, -1)]
    assert all(record["end_at"] >= record["start_at"] >= record["submitted_at"] for record in records)


def test_what_could_never_run_is_refused_at_once_by_the_client(one_node: Cluster) -> None:
    told = one_node.sky("exec", "mycluster", "--gpus", "H100:8", "-d", "--", "true", check=1)
    assert "1x[H100:8]" in told.stderr
    assert "H100:4" in told.stderr
    assert one_node.sky("queue", "-o", "json").stdout.count("job_id") == 0
    waiting = one_node.submit("--wait", "--gpus", "H100:8", "--", "true")
    one_node.eventually(lambda: "H100:4" in one_node.reason(waiting))
    one_node.node("n2", "H100:8")
    assert one_node.ended(waiting) == ["SUCCEEDED"]
