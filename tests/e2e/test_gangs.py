"""Jobs on several nodes: what each rank sees, how setup and run begin and end together, what a lost node costs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running, sleepers

SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with two H100s each, on addresses of their own, for all tests here that end no daemon."""
    with running(tmp_path_factory.mktemp("three")) as cluster:
        cluster.head()
        for number in (1, 2, 3):
            cluster.node(f"n{number}", "H100:2", address=f"127.0.0.{number}")
        yield cluster.ready().warm()


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test left behind on the shared cluster ends with it, and was sound."""
    yield
    if "three" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("three")
        cluster.sky("cancel", "--all", "-y")
        cluster.eventually(lambda: not cluster.state().jobs)
        cluster.sound()


def log(cluster: Cluster, ident: int, rank: int, stage: str = "") -> str:
    """What one rank wrote."""
    job = cluster.job(ident)
    assert job is not None
    path = Path(cluster.spool.log_dir(ident), f"{stage}{rank}-{job.allocations[rank].node}.log")
    return path.read_text() if path.exists() else ""


# ---- what ranks see


def test_hostname_on_two_nodes_prints_two_lines_each_time(three: Cluster) -> None:
    (three.folder / "minimal.yaml").write_text("num_nodes: 2\nsetup: echo running setup\nrun: hostname\n")
    host = os.uname().nodename
    for verb in ("launch", "exec"):
        told = three.sky(verb, "mycluster", "minimal.yaml").stdout
        ranks = re.findall(rf"^\((\w+, rank=\d, pid=)\d+.*\) {re.escape(host)}$", told, re.MULTILINE)
        assert sorted(ranks) == ["head, rank=0, pid=", "worker1, rank=1, pid="]
        setups = re.findall(r"^\(setup.*\) running setup$", told, re.MULTILINE)
        assert len(setups) == (2 if verb == "launch" else 0)


def test_each_rank_sees_the_addresses_of_all_in_the_order_of_ranks(three: Cluster) -> None:
    names = "SKYPILOT_NODE_RANK SKYPILOT_NUM_NODES SKYPILOT_NUM_GPUS_PER_NODE CUDA_VISIBLE_DEVICES"
    shown = " ".join(f"${name}" for name in names.split())
    text = (
        f'num_nodes: 3\nresources: {{accelerators: H100:2}}\nrun: |\n  echo "$SKYPILOT_NODE_IPS"\n  echo {shown}\n...\n'
    )
    ident = three.add("env.yaml", text)
    assert three.ended(ident) == ["SUCCEEDED"]
    addresses = "127.0.0.1\n127.0.0.2\n127.0.0.3\n"
    assert [log(three, ident, rank) for rank in range(3)] == [f"{addresses}{rank} 3 2 0,1\n" for rank in range(3)]


def test_a_share_on_each_of_two_nodes_counts_as_one_gpu(three: Cluster) -> None:
    words = ["--gpus", "h100:0.2", "--num-nodes", "2", "--", "echo [$SKYPILOT_NUM_GPUS_PER_NODE]"]
    assert three.sky("exec", "mycluster", *words).stdout.count("[1]\n") == 2


def test_a_rank_that_ends_early_with_0_ends_nobody_and_its_background_processes_live_until_all_are_over(
    three: Cluster,
) -> None:
    gate = three.gate()
    run = f"if [ $SKYPILOT_NODE_RANK = 0 ]; then {gate}; else sleep 9401 & echo $!; fi"
    ident = three.add("early.yaml", f"num_nodes: 2\nrun: |\n  {run}\n...\n")
    three.eventually(lambda: log(three, ident, 1))
    background = int(log(three, ident, 1))
    time.sleep(0.5)  # in which nothing may happen: neither an end of the job nor of what rank 1 left behind
    assert three.statuses()[ident] == "RUNNING"
    os.kill(background, 0)
    gate.open()
    assert three.ended(ident) == ["SUCCEEDED"]
    assert sleepers(9401) == []


def test_one_rank_of_three_fails_and_the_others_are_ended_as_137(three: Cluster) -> None:
    run = "echo I am $SKYPILOT_NODE_RANK; if [ $SKYPILOT_NODE_RANK = 1 ]; then sleep 0.3; exit 1; fi; sleep 9402"
    (three.folder / "fails.yaml").write_text(f"num_nodes: 3\nrun: |\n  {run}\n")
    began = time.monotonic()
    done = three.sky("exec", "mycluster", "fails.yaml", check=100)
    assert time.monotonic() - began < 8
    assert "failed with return code list: [137, 1, 137]" in done.stderr
    assert "Job finished (status: FAILED)." in done.stderr
    assert all(re.search(rf"^\(\w+, rank={r}.*\) I am {r}$", done.stdout, re.MULTILINE) for r in range(3))
    assert sleepers(9402) == []


def test_the_failed_rank_is_told_with_its_own_exit_code(three: Cluster) -> None:
    ident = three.add("f.yaml", "num_nodes: 2\nrun: '[ $SKYPILOT_NODE_RANK = 0 ] && exit 0; sleep 0.5; exit 42'\n...\n")
    assert three.ended(ident) == ["FAILED"]
    job = three.job(ident)
    assert job and (job.exit_codes, job.reason) == ([0, 42], "rank 1: run ended with exit code 42")


# ---- setup


def test_setup_that_fails_on_one_node_ends_the_others_and_run_never_starts(three: Cluster) -> None:
    setup = "if [ $SKYPILOT_SETUP_NODE_RANK = 1 ]; then sleep 0.3; exit 1; fi; sleep 9403"
    (three.folder / "setup.yaml").write_text(f"num_nodes: 2\nsetup: |\n  {setup}\nrun: echo RUN BEGAN\n")
    began = time.monotonic()
    done = three.sky("launch", "-c", "mycluster", "setup.yaml", check=100)
    assert time.monotonic() - began < 8
    assert re.search(r"setup failed. Failed workers: .*\(pid=\d+, returncode=1\)", done.stderr)
    assert "Job finished (status: FAILED_SETUP)." in done.stderr
    assert "RUN BEGAN" not in done.stdout
    assert sleepers(9403) == []


def test_run_begins_nowhere_before_setup_is_over_everywhere(three: Cluster) -> None:
    gate = three.gate()
    setup = f"echo before; if [ $SKYPILOT_SETUP_NODE_RANK = 1 ]; then {gate}; fi; date +%s%N"
    ident = three.add("barrier.yaml", f"num_nodes: 2\nsetup: |\n  {setup}\nrun: date +%s%N\n...\n")
    three.eventually(lambda: len(log(three, ident, 0, "setup-").split()) == 2)
    assert three.statuses()[ident] == "SETTING_UP"
    assert log(three, ident, 0) == ""
    gate.open()
    assert three.ended(ident) == ["SUCCEEDED"]
    last_setup = max(int(log(three, ident, rank, "setup-").split()[1]) for rank in (0, 1))
    assert min(int(log(three, ident, rank)) for rank in (0, 1)) > last_setup


def test_halves_on_two_nodes_a_third_waits_and_is_cancelled_during_setup(cluster: Cluster) -> None:
    cluster.head().node("n1", "H100:1").node("n2", "H100:1").ready()
    gate = cluster.gate()
    text = f"num_nodes: 2\nresources: {{accelerators: H100:0.5}}\nsetup: sleep 9404\nrun: {gate}\n...\n"
    runs = [cluster.add(f"{n}.yaml", text.replace("sleep 9404", "echo set up")) for n in (1, 2)]
    third = cluster.add("third.yaml", text)
    cluster.runs(*runs)
    assert cluster.statuses()[third] == "PENDING"
    cluster.sky("cancel", str(runs[0]))
    cluster.has_status("SETTING_UP", third)
    cluster.eventually(lambda: len(sleepers(9404)) == 2)
    assert "Cancelled job ID(s)" in cluster.sky("cancel", str(third)).stdout
    assert cluster.ended(third) == ["CANCELLED"]
    assert sleepers(9404) == []
    assert not Path(cluster.spool.log_dir(third), "0-n1.log").exists()
    assert cluster.sky("logs", str(third), "--status", check=103).stdout == f"Job {third}: CANCELLED\n"
    cluster.sound()


# ---- all or none


def test_a_gang_starts_on_all_its_nodes_or_waits_and_holds_nothing(three: Cluster) -> None:
    gate = three.gate()
    blocker = three.add("b.yaml", f"resources: {{accelerators: H100:2}}\nrun: {gate}\n...\n")
    gang = three.add("g.yaml", "num_nodes: 3\nresources: {accelerators: H100:1}\nrun: 'true'\n...\n")
    later = three.add("l.yaml", "num_nodes: 2\nresources: {accelerators: H100:2}\nrun: 'true'\n...\n")
    assert three.ended(later) == ["SUCCEEDED"]
    assert [three.statuses()[ident] for ident in (blocker, gang)] == ["RUNNING", "PENDING"]
    assert not Path(three.spool.log_dir(gang)).exists()
    gate.open()
    assert three.ended(gang, blocker) == ["SUCCEEDED"] * 2


# ---- a node that is lost


def test_a_lost_node_ends_the_gang_frees_the_others_slots_and_keeps_its_own(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="3s", fence_margin="1s", heartbeat="0.3s") as cluster:
        cluster.head().node("n1", "H100:1").node("n2", "H100:1").ready()
        gang = cluster.add("gang.yaml", "num_nodes: 2\nresources: {accelerators: H100:1}\nrun: sleep 9405\n...\n")
        cluster.runs(gang)
        cluster.kill("n2")
        assert cluster.ended(gang) == ["FAILED"]
        assert cluster.reason(gang) == "lost contact with node n2"
        next_one = cluster.add("next.yaml", "num_nodes: 2\nresources: {accelerators: H100:1}\nrun: echo hi\n...\n")
        single = cluster.add("single.yaml", "resources: {accelerators: H100:1}\nrun: echo hi\n...\n")
        assert cluster.ended(single) == ["SUCCEEDED"]
        assert cluster.statuses()[next_one] == "PENDING"
        holders = {name: node.gpus[0].holders for name, node in cluster.state().nodes.items()}
        assert holders == {"n1": {}, "n2": {f"{gang}.1": 1000}}
        assert len(sleepers(9405)) == 1  # what a killed runner ran goes on until the node is back
        cluster.node("n2", "H100:1")
        assert cluster.ended(next_one) == ["SUCCEEDED"]
        assert sleepers(9405) == []
        cluster.sound()


# ---- torchrun

DISTRIBUTED = """\
num_nodes: 2
resources: {accelerators: H100:1}
envs: {OMP_NUM_THREADS: 1}
run: |
  head=$(echo "$SKYPILOT_NODE_IPS" | head -n1)
  PYTHON -m torch.distributed.run --nnodes=$SKYPILOT_NUM_NODES --nproc_per_node=$SKYPILOT_NUM_GPUS_PER_NODE \\
    --node_rank=$SKYPILOT_NODE_RANK --master_addr=$head --master_port=PORT --redirects 1 --tee 1 \\
    --monitor_interval 0.1 sum.py
"""  # Debian's torch 1.13 cannot read its own defaults of --redirects and --tee, 0, under Python 3.11 (enum.Flag)

SUM_PY = """\
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.tensor([float(dist.get_rank())])
dist.all_reduce(total)
print("rank", dist.get_rank(), "of", dist.get_world_size(), "sum", int(total), flush=True)
dist.destroy_process_group()
"""


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_torch() -> bool:
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
    return subprocess.run([SYSTEM_PYTHON, "-c", find], capture_output=True).returncode == 0


def with_torch(cluster: Cluster, name: str, program: str) -> str:
    """The path of a task file that runs a program under torchrun on two nodes."""
    (cluster.folder / f"{name}.py").write_text(program)
    text = DISTRIBUTED.replace("PYTHON", SYSTEM_PYTHON).replace("PORT", str(free_port()))
    (cluster.folder / f"{name}.yaml").write_text(text.replace("sum.py", f"{name}.py"))
    return f"{name}.yaml"


def processes_that_run(program: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f" {program}"], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


def test_torchrun_over_two_nodes_works_from_the_variables_alone_and_is_gone_after_a_cancel(three: Cluster) -> None:
    if not has_torch():
        pytest.skip(f"torch is not installed for {SYSTEM_PYTHON} (bash .ci/parts does it): torchrun is NOT tested")
    name = f"hangs-{os.getpid()}"
    hangs = three.submit(with_torch(three, name, f"{SUM_PY}import time\ntime.sleep(9406)\n"))
    told = three.sky("exec", "mycluster", with_torch(three, "sum", SUM_PY)).stdout
    assert "rank 0 of 2 sum 1" in told
    assert "rank 1 of 2 sum 1" in told
    three.eventually(lambda: all("sum 1" in log(three, hangs, rank) for rank in (0, 1)))
    assert len(processes_that_run(f"{name}.py")) >= 4  # two of torchrun, two of its workers
    three.sky("cancel", str(hangs))
    assert three.ended(hangs) == ["CANCELLED"]
    assert processes_that_run(f"{name}.py") == []
