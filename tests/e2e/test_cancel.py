"""Cancelling, by everything that names a job, at every moment of its life; and that nothing of it is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running, sleepers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node with one H100 for all tests here that end no daemon."""
    with running(tmp_path_factory.mktemp("cancel"), grace="4s") as cluster:
        yield cluster.head().node("n1", "H100:1").ready().warm()


def script(*lines: str, gpus: str = "") -> str:
    """A task file with these run commands."""
    resources = f"resources: {{accelerators: '{gpus}'}}\n" if gpus else ""
    return resources + "run: |\n" + "".join(f"  {line}\n" for line in lines) + "...\n"


# ---- whose names


def test_by_id_name_handle_or_none_for_the_latest(shared: Cluster) -> None:
    ids = [shared.add(f"{name}.yaml", f"name: {name}\nrun: sleep 9501\n...\n") for name in ("one", "two", "six", "ten")]
    shared.runs(*ids)
    handle = shared.sky("exec", "-d", "--no-wait", "--", "sleep 9501").stdout.split()[-1]
    shared.eventually(lambda: len(shared.state().jobs) == 5)
    assert "@" in handle
    last = max(shared.state().jobs)
    for words, ident in ((["mycluster", "two"], ids[1]), ([handle], last), ([str(ids[0])], ids[0]), ([], ids[3])):
        assert f"Cancelled job ID(s): {ident}\n" in shared.sky("cancel", *words).stdout
        assert shared.ended(ident) == ["CANCELLED"]
    assert shared.statuses()[ids[2]] == "RUNNING"
    assert f"Cancelled job ID(s): {ids[2]}\n" in shared.sky("cancel", "mycluster", "--all", "--yes").stdout
    assert shared.ended(ids[2]) == ["CANCELLED"]
    assert shared.reason(ids[2]).startswith("cancelled by ")


def test_several_at_once_and_a_second_time_is_no_error(shared: Cluster) -> None:
    ids = [shared.add(f"{n}.yaml", script("sleep 9502")) for n in range(3)]
    shared.runs(*ids)
    told = shared.sky("cancel", "mycluster", *map(str, ids)).stdout
    assert f"Cancelled job ID(s): {', '.join(map(str, ids))}" in told
    assert shared.ended(*ids) == ["CANCELLED"] * 3
    again = shared.sky("cancel", str(ids[0]), "999")
    assert again.stdout == "No jobs cancelled.\n"
    assert f"job {ids[0]} is over (CANCELLED)" in again.stderr
    assert "no job 999" in again.stderr
    assert "'nobody'" in shared.sky("cancel", "nobody", check=102).stderr  # which may have been meant as a cluster
    assert sleepers(9502) == []


def test_a_name_that_several_jobs_have_is_refused_with_their_ids(shared: Cluster) -> None:
    ids = [shared.add(f"{n}.yaml", "name: twin\nrun: sleep 9503\n...\n") for n in range(2)]
    refused = shared.sky("cancel", "twin", check=1).stderr
    assert f"skyspool cancel {ids[0]} {ids[1]}" in refused
    shared.sky("cancel", *map(str, ids))
    assert shared.ended(*ids) == ["CANCELLED"] * 2


def test_a_request_file_written_by_hand(shared: Cluster) -> None:
    ids = [shared.add(f"{name}.yaml", f"name: {name}\nrun: sleep 9504\n...\n") for name in ("red", "blue", "green")]
    Path(shared.spool.requests, "please.yaml").write_text(f"cancel: [{ids[0]}, blue]\n")
    assert shared.ended(*ids[:2]) == ["CANCELLED"] * 2
    assert shared.statuses()[ids[2]] in ("RUNNING", "PENDING")
    made = Path(shared.spool.tmp, "request")
    made.write_text(f"cancel: {ids[2]}\n...\n")
    made.rename(Path(shared.spool.requests, "again.yaml"))
    assert shared.ended(ids[2]) == ["CANCELLED"]
    assert list(Path(shared.spool.requests).iterdir()) == []


# ---- when


def test_a_pending_job_is_over_at_once_and_never_runs(shared: Cluster) -> None:
    first = shared.add("first.yaml", script("sleep 9505", gpus="H100"))
    second = shared.add("second.yaml", script("echo RAN", gpus="H100"))
    shared.runs(first)
    shared.sky("cancel", str(second))
    assert shared.statuses()[second] == "CANCELLED"
    shared.sky("cancel", str(first))
    assert shared.ended(first) == ["CANCELLED"]
    third = shared.add("third.yaml", script("echo ran", gpus="H100"))
    assert shared.ended(third) == ["SUCCEEDED"]
    assert not Path(shared.spool.log_dir(second)).exists()
    shared.eventually(lambda: list(Path(shared.spool.pending).iterdir()) == [])
    job = shared.job(second)
    assert job and Path(shared.spool.ended(job.day, job.file, "CANCELLED")).exists()


def test_what_no_head_has_accepted_leaves_no_job(cluster: Cluster) -> None:
    kept, taken = (cluster.sky("exec", "-d", "--", "true").stdout.split()[-1] for _ in range(2))
    assert cluster.sky("cancel", "mycluster", taken).stdout == f"Cancelled before it was accepted: {taken}\n"
    cluster.head().node("n1").ready()
    assert cluster.ended(1) == ["SUCCEEDED"]
    assert cluster.sky("logs", kept).returncode == 0
    assert [*cluster.statuses()] == [1]


def test_without_a_head_the_request_waits_and_is_carried_out_by_the_next(tmp_path: Path) -> None:
    with running(tmp_path, lock_heartbeat="0.2s", lock_threshold="0.6s") as cluster:
        cluster.head().node("n1").ready()
        ident = cluster.add("long.yaml", script("sleep 9506"))
        cluster.runs(ident)
        cluster.kill("head")
        cluster.eventually(lambda: "no head is alive" in cluster.sky("queue").stderr)
        told = cluster.sky("cancel", "--async", str(ident))
        assert told.stdout == f"Cancellation requested: {ident}\n"
        assert "no head is alive" in told.stderr
        cluster.head()
        assert cluster.ended(ident) == ["CANCELLED"]
        assert sleepers(9506) == []


def test_ten_in_a_row_leave_no_process(shared: Cluster) -> None:
    for _ in range(10):
        ident = shared.add("again.yaml", script("sleep 9507", gpus="H100"))
        shared.runs(ident)
        shared.sky("cancel", str(ident))
        assert shared.ended(ident, seconds=5) == ["CANCELLED"]
        assert sleepers(9507) == []


# ---- what is ended


def test_every_process_gets_sigterm_also_those_with_sessions_of_their_own(shared: Cluster) -> None:
    note = shared.folder / "terminated"
    told = f"trap 'echo \\$NAME >> {note}; exit' TERM; sleep 9511 & wait"
    ident = shared.add(
        "many.yaml",
        script(
            f'export TRAP="{told}"',
            'NAME=child bash -c "$TRAP" &',
            'NAME=session setsid bash -c "$TRAP" &',
            'NAME=nohup nohup bash -c "$TRAP" > /dev/null 2>&1 &',
            '( ( NAME=orphan bash -c "$TRAP" & ) & )',
            '( NAME=daemon setsid --fork bash -c "$TRAP" < /dev/null > /dev/null 2>&1 )',
            'NAME=deep setsid bash -c "setsid --fork bash -c \\"\\$TRAP\\"" &',
            "( kill -STOP $BASHPID; sleep 9511 ) &",
            "sleep 9511",
        ),
    )
    shared.eventually(lambda: len(sleepers(9511)) == 7)
    shared.sky("cancel", str(ident))
    assert shared.ended(ident) == ["CANCELLED"]
    assert sleepers(9511) == []
    assert sorted(note.read_text().split()) == ["child", "daemon", "deep", "nohup", "orphan", "session"]


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_time_and_only_then_the_gpu_is_free(
    shared: Cluster,
) -> None:
    stubborn = shared.add(
        "stubborn.yaml",
        script(
            "setsid bash -c 'trap \"\" TERM; echo $$ > stubborn.pid; sleep 9512; sleep 9512' &",
            "trap 'setsid sleep 9512 & exit 0' TERM  # and one that makes another when it is asked to end",
            "sleep 9512 & wait",
            gpus="H100",
        ).replace("run:", f"workdir: {shared.folder}\nrun:"),
    )
    shared.eventually(lambda: len(sleepers(9512)) == 2)
    look = "[ -e /proc/$(cat stubborn.pid) ] && echo still there || echo gone"
    waiting = shared.add("next.yaml", script(look, gpus="H100").replace("run:", f"workdir: {shared.folder}\nrun:"))
    began = time.monotonic()
    assert "Cancelled" in shared.sky("cancel", str(stubborn)).stdout
    assert "RUNNING (stopping)" in shared.sky("queue").stdout
    assert "being stopped already" in shared.sky("cancel", str(stubborn)).stderr
    assert shared.statuses()[waiting] == "PENDING"
    assert shared.ended(stubborn, waiting) == ["CANCELLED", "SUCCEEDED"]
    assert time.monotonic() - began > 4
    assert shared.log(waiting) == "gone\n"
    assert sleepers(9512) == []
    shared.sound()


def test_what_a_job_that_ended_left_behind_is_ended_before_its_gpu_is_free(shared: Cluster) -> None:
    ident = shared.add("left.yaml", script("setsid sleep 9513 &", "sleep 9513 &", "exit 7", gpus="H100"))
    assert shared.ended(ident) == ["FAILED"]
    job = shared.job(ident)
    assert job and job.exit_codes == [7]
    assert sleepers(9513) == []


def test_a_process_that_cleared_its_environment_and_left_its_session_is_ended_too(shared: Cluster) -> None:
    ident = shared.add("clear.yaml", script("env -i setsid --fork sleep 9514", "sleep 9515"))
    shared.eventually(lambda: len(sleepers(9515)) == len(sleepers(9514)) == 1)
    shared.sky("cancel", str(ident))
    assert shared.ended(ident) == ["CANCELLED"]
    assert sleepers(9515) == []
    assert sleepers(9514) == []


def test_a_login_shell_ends_at_once_and_runs_no_further_line(tmp_path: Path) -> None:
    with running(tmp_path, shell="login", grace="10s") as cluster:
        cluster.head().node("n1").ready()
        ident = cluster.add("lines.yaml", script("echo a", "sleep 9516", "echo b", "sleep 9516"))
        cluster.eventually(lambda: sleepers(9516))
        cluster.sky("cancel", str(ident))
        assert cluster.ended(ident, seconds=5) == ["CANCELLED"]
        assert cluster.log(ident) == "a\n"
        assert sleepers(9516) == []
