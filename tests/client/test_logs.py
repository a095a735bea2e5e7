from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run


def one(scene: Scene, gpus: str = "", **options: bool) -> int:
    scene.node("n1", "H100:4")
    return scene.started("train", gpus, **options)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.SUCCEEDED, 0),
        (Status.FAILED, 100),
        (Status.FAILED_SETUP, 100),
        (Status.FAILED_DRIVER, 100),
        (Status.CANCELLED, 103),
    ],
)
def test_codes_of_ended_jobs(scene: Scene, sky: Run, status: Status, code: int) -> None:
    scene.ended(one(scene), status)
    ran = sky("logs", "1", "--status")
    assert (ran.code, ran.out) == (code, f"Job 1: {status}\n")
    assert sky("logs", "1").code == sky("logs", "1", "--no-follow").code == code


def test_codes_of_live_and_unknown_jobs(scene: Scene, sky: Run) -> None:
    one(scene)
    assert sky("logs", "1", "--status").code == 101
    assert sky("logs", "1", "--no-follow").code == 0
    assert sky("logs", "7").code == 102


def test_no_job_at_all(scene: Scene, sky: Run) -> None:
    assert sky("logs").code == 102


def test_output_passes_through_and_commentary_does_not_mix(scene: Scene, sky: Run) -> None:
    job = one(scene)
    scene.log(job, "setup.log", "installing\n")
    scene.log(job, "run.log", b"epoch 1\r\x1b[31mepoch 2\x1b[0m\r\nno newline")
    scene.ended(job)
    ran = sky("logs", "1")
    assert ran.out == "(setup) installing\nepoch 1\r\x1b[31mepoch 2\x1b[0m\r\nno newline"
    assert ran.err.endswith("Job finished (status: SUCCEEDED).\n")


def test_a_line_of_300_kb_comes_through_whole(scene: Scene, sky: Run) -> None:
    job = one(scene)
    scene.log(job, "run.log", "x" * 300_000 + "\n")
    scene.ended(job)
    assert sky("logs", "1").out == "x" * 300_000 + "\n"


def test_several_ranks_carry_skypilots_prefixes(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:4")
    scene.node("n2", "H100:4")
    job = scene.start(scene.pending("gang", "H100:4", nodes=2), pids=(123, 456))
    scene.log(job, "0-n1.log", "one\n10%\r20%\r\ntwo")
    scene.log(job, "1-n2.log", "three\n")
    scene.ended(job, Status.FAILED, codes=(1, 137))
    ran = sky("logs", "1")
    head, worker = "(head, rank=0, pid=123) ", "(worker1, rank=1, pid=456, ip=10.0.0.2) "
    assert ran.out == f"{head}one\n{head}10%\r{head}20%\r\n{head}two\n{worker}three\n"
    assert "ERROR: Job 1 failed with return code list: [1, 137]" in ran.err


def test_failed_setup_names_the_workers(scene: Scene, sky: Run) -> None:
    job = one(scene, setup=True)
    scene.ended(job, Status.FAILED_SETUP, codes=(3,))
    assert "ERROR: Job 1's setup failed. Failed workers: (pid=?, returncode=3)" in sky("logs", "1").err


def test_tail_reads_from_the_end(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    job = one(scene)
    path = scene.log(job, "run.log", "".join(f"line {n} {'x' * 50}\n" for n in range(100_000)))
    taken = []
    from skyspool import logfiles

    whole = logfiles.read
    monkeypatch.setattr(logfiles, "read", lambda *words: taken.append(len(data := whole(*words))) or data)
    ran = sky("logs", "1", "--no-follow", "--tail", "2")
    assert [line.split()[1] for line in ran.out.splitlines()] == ["99998", "99999"]
    assert sum(taken) < path.stat().st_size / 10


def test_tail_reaches_into_setup(scene: Scene, sky: Run) -> None:
    job = one(scene)
    scene.log(job, "setup.log", "a\nb\n")
    scene.log(job, "run.log", "c\n")
    assert sky("logs", "1", "--no-follow", "--tail", "2").out == "(setup) b\nc\n"


def test_following_ends_by_itself(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    job = scene.pending("train")

    def head() -> None:
        time.sleep(0.2)
        scene.start(job)
        scene.log(job, "run.log", "hel")
        time.sleep(0.2)
        scene.log(job, "run.log", "lo\n")
        scene.ended(job, Status.FAILED, codes=(2,))

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs", "1")
    thread.join()
    assert (ran.code, ran.out) == (100, "hello\n")
    assert ran.err.splitlines() == [
        "Waiting for task resources on 1 node(s).",
        "Job started. Streaming logs... (Ctrl-C to exit log streaming; job will not be killed)",
        "ERROR: Job 1 failed with return code list: [2]",
        "Job finished (status: FAILED).",
    ]


def test_by_name_and_by_handle(scene: Scene, sky: Run) -> None:
    scene.pending("train", drop="train@00000000000000.yaml")
    scene.pending("train")
    assert sky("logs", "train", "--status").out == "Job 2: PENDING\n"
    assert sky("logs", "train@00000000000000", "--status").out == "Job 1: PENDING\n"


def test_a_job_that_the_ledger_forgot(scene: Scene, sky: Run) -> None:
    job = one(scene)
    scene.log(job, "run.log", "long ago\n")
    scene.ended(job)
    scene.forget(job)
    assert sky("logs", "1", "--no-follow").out == "long ago\n"
    assert sky("logs", "train", "--status").out == "Job 1: SUCCEEDED\n"


def test_sync_down(scene: Scene, sky: Run, home: Path) -> None:
    job = one(scene)
    scene.log(job, "run.log", "hello\n")
    ran = sky("logs", "mycluster", "1", "-s") if False else sky("logs", "1", "-s")
    place = home / "sky_logs" / "mycluster" / "1-train"
    assert ran.out == f"Job 1 logs: {place}\n"
    assert (place / "run.log").read_text() == "hello\n"


def test_several_jobs_only_with_sync_down(scene: Scene, sky: Run) -> None:
    assert sky("logs", "1", "2").code == 2
    assert sky("logs", "1", "--status", "-s").code == 2
