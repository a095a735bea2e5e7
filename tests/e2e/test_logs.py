"""What jobs print, as the client passes it on: every byte, while it comes, with SkyPilot's codes at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two CPU nodes."""
    with running(tmp_path_factory.mktemp("logs")) as cluster:
        yield cluster.head().node("n1").node("n2").ready().warm()


def follower(cluster: Cluster, *words: str) -> subprocess.Popen[bytes]:
    """A client that goes on while the test does."""
    return subprocess.Popen(
        [sys.executable, "-m", "skyspool", *words],
        cwd=cluster.folder,
        env={**os.environ, "HOME": str(cluster.home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# ---- exit codes


def test_exit_codes_are_skypilots(shared: Cluster) -> None:
    gate = shared.gate()
    good = shared.sky("exec", "mycluster", "--", "echo fine")
    bad = shared.sky("exec", "mycluster", "-n", "bad", "--", "exit 1", check=100)
    assert good.stdout.endswith("fine\n")
    assert "ERROR: Job" in bad.stderr
    ids = [int(done.stdout.splitlines()[0].rpartition(" ")[2]) for done in (good, bad)]
    waits, gone = shared.submit("--", str(gate)), shared.submit("--", str(gate))
    shared.sky("cancel", str(gone))
    shared.ended(gone)
    shared.runs(waits)
    statuses = ["SUCCEEDED", "FAILED", "RUNNING", "CANCELLED"]
    for ident, code, status in zip((*ids, waits, gone), (0, 100, 101, 103), statuses, strict=True):
        assert shared.sky("logs", str(ident), "--status", check=code).stdout == f"Job {ident}: {status}\n"
        shared.sky("logs", str(ident), "--no-follow", check=0 if code == 101 else code)
    shared.sky("logs", "mycluster", "9999", check=102)
    shared.sky("logs", "nosuchname", "--status", check=102)
    gate.open()
    assert shared.sky("logs", str(waits)).returncode == 0
    assert shared.sky("logs", "bad", check=100).stderr.endswith("Job finished (status: FAILED).\n")


def test_without_a_job_logs_and_cancel_say_so(cluster: Cluster) -> None:
    cluster.sky("logs", check=102)
    assert cluster.sky("cancel").stdout == "No jobs cancelled.\n"
    assert cluster.sky("queue", "-o", "json").stdout.replace("\n", "") == '{  "mycluster": []}'


# ---- bytes


def test_long_lines_progress_bars_and_binary_come_through_whole(shared: Cluster) -> None:
    (shared.folder / "noise.py").write_text(
        "import sys\n"
        "out = sys.stdout.buffer\n"
        "out.write(b'x' * 300_000 + b'\\n')\n"
        "for n in range(50):\n    out.write(b'\\rstep %d' % n)\n"
        "out.write(b'\\n' + bytes(range(256)) + b'\\nlast line without an end')\n"
    )
    with follower(shared, "exec", "mycluster", "--", "python3 noise.py") as client:
        out, _ = client.communicate(timeout=30)
    bars = b"".join(b"\rstep %d" % n for n in range(50))
    wanted = b"x" * 300_000 + b"\n" + bars + b"\n" + bytes(range(256)) + b"\nlast line without an end"
    assert out.partition(b"\n")[2] == wanted
    with follower(shared, "exec", "mycluster", "--num-nodes", "2", "--", "python3 noise.py") as client:
        out, _ = client.communicate(timeout=30)
    assert out.count(b"x" * 300_000 + b"\n") == 2
    assert all(out.count(b"step %d\r" % n) == 2 for n in range(49))
    assert out.count(b"last line without an end") == 2


def test_what_a_job_prints_arrives_while_it_runs_and_not_in_a_burst(shared: Cluster) -> None:
    gates = [shared.gate() for _ in range(4)]
    script = "; ".join(f"echo tick {number}; {gate}" for number, gate in enumerate(gates))
    with follower(shared, "exec", "mycluster", "--", script) as client:
        assert client.stdout is not None
        client.stdout.readline()  # its ID
        for number, gate in enumerate(gates):
            assert client.stdout.readline() == f"tick {number}\n".encode()
            gate.open()
        assert client.wait(20) == 0


def test_tail_and_no_follow_show_the_last_lines_of_each_rank(shared: Cluster) -> None:
    one = shared.add("one.yaml", "run: seq 1 5000\n...\n")
    two = shared.add("two.yaml", "num_nodes: 2\nrun: seq 1 50\n...\n")
    assert shared.ended(one, two) == ["SUCCEEDED"] * 2
    assert shared.sky("logs", str(one), "--tail", "2").stdout == "4999\n5000\n"
    assert shared.sky("logs", str(one), "--no-follow").stdout.splitlines() == [str(n) for n in range(1, 5001)]
    assert shared.sky("logs", str(one)).stdout.splitlines() == [str(n) for n in range(4001, 5001)]
    assert shared.sky("logs", str(one), "--tail", "0").stdout.count("\n") == 5000
    lines = shared.sky("logs", str(two), "--no-follow", "--tail", "2").stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["49", "50", "49", "50"]


def test_sync_down_copies_one_file_a_rank(shared: Cluster) -> None:
    two = shared.add("two.yaml", "name: gang\nnum_nodes: 2\nsetup: echo s\nrun: echo $SKYPILOT_NODE_RANK\n...\n")
    one = shared.add("one.yaml", "run: echo single\n...\n")
    assert shared.ended(two, one) == ["SUCCEEDED"] * 2
    told = shared.sky("logs", "mycluster", str(two), str(one), "--sync-down").stdout
    copies = [Path(line.split("logs: ")[1]) for line in told.splitlines()]
    assert copies == [shared.home / f"sky_logs/mycluster/{two}-gang", shared.home / f"sky_logs/mycluster/{one}-one"]
    found = {path.name: path.read_text() for path in copies[0].iterdir()}
    assert found == {"0-n1.log": "0\n", "1-n2.log": "1\n", "setup-0-n1.log": "s\n", "setup-1-n2.log": "s\n"}
    assert (copies[1] / "run.log").read_text() == "single\n"


# ---- followers


def test_a_follower_of_a_pending_job_waits_says_so_and_streams_it_all(shared: Cluster) -> None:
    gate = shared.gate()
    hog = shared.add("hog.yaml", f"num_nodes: 2\nresources: {{cpus: 8}}\nrun: {gate}\n...\n")
    shared.runs(hog)
    with follower(shared, "exec", "mycluster", "--cpus", "8", "--", "echo my turn") as client:
        assert client.stderr is not None and client.stdout is not None
        assert any(b"Waiting for task resources on 1 node(s)." in line for line in iter(client.stderr.readline, b""))
        gate.open()
        assert client.stdout.read().endswith(b"my turn\n")
        assert b"Job finished (status: SUCCEEDED).\n" in client.stderr.read()
        assert client.wait(20) == 0


def test_a_killed_follower_does_no_harm_and_ctrl_c_leaves_the_job_running(shared: Cluster) -> None:
    gate = shared.gate()
    ident = shared.add("job.yaml", f"run: |\n  echo first\n  {gate}\n  echo last\n...\n")
    for number, code in ((9, -9), (2, 130)):
        with follower(shared, "logs", str(ident)) as client:
            assert client.stdout is not None and client.stderr is not None
            assert client.stdout.readline() == b"first\n"
            client.send_signal(number)
            assert client.wait(10) == code
            assert (b"skyspool cancel mycluster" in client.stderr.read()) == (code == 130)
    assert shared.statuses()[ident] == "RUNNING"
    gate.open()
    assert shared.ended(ident) == ["SUCCEEDED"]
    assert shared.log(ident) == "first\nlast\n"


# ---- sizes


def test_scripts_of_40000_lines_run_to_their_last(shared: Cluster) -> None:
    """As long as two may be with the default of max_file."""
    count = 40_000
    lines = "  x=$((x+1))\n" * (count - 1)
    (shared.folder / "long.yaml").write_text(f"setup: |\n{lines}  echo set up $x\nrun: |\n{lines}  echo ran $x\n")
    told = shared.sky("launch", "-c", "mycluster", "long.yaml").stdout
    assert f"set up {count - 1}\n" in told
    assert told.endswith(f"ran {count - 1}\n")
