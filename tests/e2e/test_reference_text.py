"""The reference text: every command line and every YAML as typed there, `skyspool` for `sky`, gives what it says.

What the text leaves out as `...` is filled in so that a job shows what it got and waits at a gate.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Gate, running

CLUSTER_YAML = """\
num_nodes: 4
resources:
  accelerators: H100:8

workdir: .
setup: |
  # Install dependencies.
  echo installing on $SKYPILOT_SETUP_NODE_RANK in $PWD
"""

TASK_YAML = """\
num_nodes: 2
resources:
  accelerators: H100:4

run: |
  # Run training script.
  echo devices $CUDA_VISIBLE_DEVICES
  {gate}
"""

FIVE_TIMES = """\
# Launch the job 5 times.
skyspool exec mycluster task.yaml -d
skyspool exec mycluster task.yaml -d
skyspool exec mycluster task.yaml -d
skyspool exec mycluster task.yaml -d
skyspool exec mycluster task.yaml -d
"""

TRIALS = """\
skyspool exec mycluster --gpus H100:0.5 -d -- python train.py --lr 1e-3
skyspool exec mycluster --gpus H100:0.5 -d -- python train.py --lr 3e-3
"""

TRAIN_PY = """\
import fcntl, os, sys
print(sys.argv[1:], "on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
fcntl.flock(open({gate!r}), fcntl.LOCK_SH)
"""

DNN_YAML = """\
name: huggingface

resources:
  accelerators: H100:4

run: |
  echo $CUDA_VISIBLE_DEVICES
  flock -s gate-$SKYPILOT_INTERNAL_JOB_ID true
"""

FOUR_MORE = """\
# Launch 4 jobs, perhaps with different hyperparameters.
# You can override the task name with `-n` (optional) and
# the resource requirement with `--gpus` (optional).
skyspool exec lm-cluster dnn.yaml -d -n job2 --gpus=H100:1
skyspool exec lm-cluster dnn.yaml -d -n job3 --gpus=H100:1
skyspool exec lm-cluster dnn.yaml -d -n job4 --gpus=H100:4
skyspool exec lm-cluster dnn.yaml -d -n job5 --gpus=H100:2
"""


@pytest.fixture(scope="module")
def mycluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes with eight H100s each. Who logs in finds a `python`, as with conda or pyenv."""
    with running(tmp_path_factory.mktemp("mycluster"), shell="login") as cluster:
        cluster.owner_at_home()
        (cluster.home / "bin").mkdir()
        (cluster.home / "bin/python").symlink_to("/usr/bin/python3")
        (cluster.home / ".bashrc").write_text("PATH=~/bin:$PATH\n")
        cluster.head()
        for name in ("n1", "n2", "n3", "n4"):
            cluster.node(name, "H100:8")
        yield cluster.ready().warm()


@pytest.fixture
def gate(mycluster: Cluster) -> Iterator[Gate]:
    """What the jobs of one test wait at; all of them are over after it."""
    made = mycluster.gate()
    yield made
    made.open()
    mycluster.eventually(lambda: not mycluster.state().jobs)
    mycluster.sound()


def environment(cluster: Cluster) -> dict[str, str]:
    """Of a shell in which `skyspool` is a command."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "HOME": str(cluster.home), "PATH": f"{here}:{os.environ['PATH']}", "COLUMNS": "120"}


def typed(cluster: Cluster, lines: str, code: int = 0) -> str:
    """What these lines print when a person's shell runs them."""
    done = subprocess.run(
        ["bash", "-ec", lines],
        cwd=cluster.folder,
        env=environment(cluster),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, f"{lines} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def in_background(cluster: Cluster, line: str) -> subprocess.Popen[str]:
    """A command line that goes on while the test does."""
    return subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=cluster.folder,
        env=environment(cluster),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def at_a_terminal(cluster: Cluster, line: str, answer: str) -> tuple[int, str]:
    """Type a line at a terminal, answer its question; exit code and all that stood on the screen."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["bash", "-c", line], cwd=cluster.folder, env=environment(cluster), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 4096):
            screen += part
            if b"?" in part:
                os.write(ours, answer.encode())
    except OSError:  # EIO: nobody has the terminal open any more
        pass
    os.close(ours)
    return process.wait(30), screen.decode()


def ids_in(told: str) -> list[int]:
    return [int(word) for word in re.findall(r"Job submitted, ID: (\d+)", told)]


def rows(table: str) -> list[list[str]]:
    """The cells of a queue table, the headings first. Columns are at least two spaces apart."""
    lines = [line for line in table.splitlines() if line.startswith(" ")]
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


def devices(cluster: Cluster, ident: int) -> dict[str, list[str]]:
    """Node -> the CUDA_VISIBLE_DEVICES that the job's rank there printed, once every rank did."""
    job = cluster.job(ident)
    assert job is not None
    files = {a.node: f"{rank}-{a.node}.log" for rank, a in enumerate(job.allocations)}
    cluster.eventually(lambda: all("devices" in cluster.log(ident, file) for file in files.values()))
    return {node: cluster.log(ident, file).split()[1].split(",") for node, file in files.items()}


# ---- mycluster


def test_launch_of_cluster_yaml_sets_up_four_nodes(mycluster: Cluster) -> None:
    (mycluster.folder / "cluster.yaml").write_text(CLUSTER_YAML)
    told = typed(mycluster, "skyspool launch -c mycluster cluster.yaml")
    found = sorted(re.findall(r"installing on (\d) in (\S+)", told))
    assert found == [(str(rank), str(mycluster.folder)) for rank in range(4)]
    [ident] = ids_in(told)
    job = mycluster.job(ident)
    assert job and [a.node for a in job.allocations] == ["n1", "n2", "n3", "n4"]
    assert {len(a.gpus) for a in job.allocations} == {8}
    assert "Job finished (status: SUCCEEDED)." in told


def test_five_execs_are_queued_and_two_tasks_share_the_nodes_of_eight_gpus(mycluster: Cluster, gate: Gate) -> None:
    (mycluster.folder / "task.yaml").write_text(TASK_YAML.format(gate=gate))
    *first, last = ids_in(typed(mycluster, FIVE_TIMES))
    assert [*first, last] == list(range(first[0], first[0] + 5))
    mycluster.runs(*first)
    table = rows(typed(mycluster, "# Show a cluster's jobs (job IDs, statuses).\nskyspool queue mycluster"))
    assert [(row[0], row[-2]) for row in table[1:3]] == [(str(last), "PENDING"), (str(first[-1]), "RUNNING")]
    held: dict[str, list[str]] = {}
    for ident in first:
        seen = devices(mycluster, ident)
        assert [len(ids) for ids in seen.values()] == [4, 4]
        for node, ids in seen.items():
            held.setdefault(node, []).extend(ids)
    eight = [str(number) for number in range(8)]
    assert {node: sorted(ids) for node, ids in held.items()} == {f"n{n}": eight for n in range(1, 5)}
    gate.open()
    assert mycluster.ended(*first, last) == ["SUCCEEDED"] * 5


def test_logs_streams_the_outputs_of_a_job_until_it_ends(mycluster: Cluster, gate: Gate) -> None:
    (mycluster.folder / "task.yaml").write_text(TASK_YAML.format(gate=gate))
    [ident] = ids_in(typed(mycluster, "skyspool exec mycluster task.yaml -d"))
    with in_background(mycluster, f"skyspool logs mycluster {ident}") as follower:
        assert follower.stdout is not None
        lines = (line.rstrip() for line in iter(follower.stdout.readline, ""))
        seen = sorted(next(line for line in lines if "devices" in line) for _ in range(2))
        assert mycluster.statuses()[ident] == "RUNNING"
        gate.open()
        assert "Job finished (status: SUCCEEDED)." in list(lines)
        assert follower.wait(20) == 0
    assert re.fullmatch(r"\(head, rank=0, pid=\d+\) devices 0,1,2,3", seen[0])
    assert re.fullmatch(r"\(worker1, rank=1, pid=\d+, ip=[\d.]+\) devices 0,1,2,3", seen[1])


def test_cancel_ends_one_job_and_cancel_all_the_others(mycluster: Cluster, gate: Gate) -> None:
    (mycluster.folder / "task.yaml").write_text(TASK_YAML.format(gate=gate))
    one, *others = ids_in(typed(mycluster, FIVE_TIMES))
    mycluster.runs(one)
    told = typed(mycluster, f"# Cancel a job.\nskyspool cancel mycluster {one}")
    assert f"Cancelled job ID(s): {one}" in told
    assert mycluster.ended(one) == ["CANCELLED"]
    assert "needs -y" in typed(mycluster, "skyspool cancel mycluster --all", code=2)
    assert {mycluster.statuses()[ident] for ident in others} <= {"RUNNING", "PENDING", "SETTING_UP"}
    code, screen = at_a_terminal(mycluster, "# Cancel all jobs on a cluster.\nskyspool cancel mycluster --all", "\n")
    assert (code, "Proceed? [Y/n]" in screen) == (0, True), screen
    assert mycluster.ended(*others) == ["CANCELLED"] * 4


def test_cancel_all_with_yes_asks_nobody(mycluster: Cluster, gate: Gate) -> None:
    (mycluster.folder / "task.yaml").write_text(TASK_YAML.format(gate=gate))
    first, second = ids_in(typed(mycluster, "".join(FIVE_TIMES.splitlines(keepends=True)[:3])))
    told = typed(mycluster, "skyspool cancel mycluster --all -y")
    assert f"Cancelled job ID(s): {first}, {second}" in told
    assert mycluster.ended(first, second) == ["CANCELLED"] * 2


def test_two_trials_with_half_a_gpu_share_one(mycluster: Cluster, gate: Gate) -> None:
    (mycluster.folder / "train.py").write_text(TRAIN_PY.format(gate=str(gate.path)))
    trials = ids_in(typed(mycluster, TRIALS))
    mycluster.runs(*trials)
    jobs = [mycluster.job(ident) for ident in trials]
    assert len({(a.node, *a.gpus.items()) for job in jobs if job for a in job.allocations}) == 1
    gate.open()
    assert mycluster.ended(*trials) == ["SUCCEEDED"] * 2
    rates = ("1e-3", "3e-3")
    assert [mycluster.log(i) for i in trials] == [f"['--lr', '{rate}'] on 0\n" for rate in rates]


def test_launch_on_an_unknown_cluster_names_the_commands_that_make_one(mycluster: Cluster) -> None:
    (mycluster.folder / "cluster.yaml").write_text(CLUSTER_YAML)
    told = typed(mycluster, "skyspool launch -c lm-cluster cluster.yaml", code=1)
    assert "no cluster is called 'lm-cluster'" in told
    assert "skyspool up" in told
    assert "skyspool init" in told


# ---- lm-cluster


def test_job5_overtakes_job4_which_starts_when_the_gpus_are_free(tmp_path: Path) -> None:
    with running(tmp_path, name="lm-cluster") as cluster:
        cluster.head().node("n1", "H100:4").ready()
        (tmp_path / "dnn.yaml").write_text(DNN_YAML)
        gates = {number: Gate(tmp_path / f"gate-{number}") for number in range(1, 6)}
        cluster.gates += gates.values()
        with in_background(cluster, "skyspool launch -c lm-cluster dnn.yaml") as launch:
            cluster.runs(1)
            assert ids_in(typed(cluster, FOUR_MORE)) == [2, 3, 4, 5]
            assert cluster.statuses() == {1: "RUNNING", 2: "PENDING", 3: "PENDING", 4: "PENDING", 5: "PENDING"}
            gates[1].open()
            assert launch.wait(20) == 0
        cluster.runs(2, 3, 5)
        check_the_table(typed(cluster, "skyspool queue lm-cluster"))
        gates[2].open()
        gates[3].open()
        assert cluster.ended(2, 3) == ["SUCCEEDED"] * 2
        assert cluster.statuses()[4] == "PENDING"
        gates[5].open()
        cluster.runs(4)
        gates[4].open()
        assert cluster.ended(4, 5) == ["SUCCEEDED"] * 2
        assert [cluster.log(ident).count(",") for ident in range(1, 6)] == [3, 0, 0, 3, 1]
        cluster.sound()


def check_the_table(told: str) -> None:
    """The text's last table: its columns in its order, its names and statuses, and what ours adds."""
    heading, *table = rows(told)
    assert [word for word in heading if word not in ("DURATION", "RESOURCES", "LOG")] == [
        "ID", "NAME", "USER", "SUBMITTED", "STARTED", "STATUS",
    ]  # fmt: skip
    by_name = [dict(zip(heading, row, strict=True)) for row in table]
    assert [(row["ID"], row["NAME"], row["STATUS"]) for row in by_name] == [
        ("5", "job5", "RUNNING"),
        ("4", "job4", "PENDING"),
        ("3", "job3", "RUNNING"),
        ("2", "job2", "RUNNING"),
        ("1", "huggingface", "SUCCEEDED"),
    ]
    assert all(re.fullmatch(r"a few secs ago|\d+ secs? ago", row["SUBMITTED"]) for row in by_name)
    assert [row["STARTED"] == "-" for row in by_name] == [False, True, False, False, False]
    assert [row["RESOURCES"] for row in by_name] == [f"1x[H100:{n}]" for n in (2, 4, 1, 1, 4)]
