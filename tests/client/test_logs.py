from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skyspool import logfiles
from skyspool.say import note
from skyspool.streaming import Screen
from spool_layout import storage
from spool_layout.records import Phase
from spool_layout.states import Status
from tests.client.builders import Head, Scene
from tests.client.conftest import Run
from tests.client.pseudo import on_terminal


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


def test_following_ends_by_itself(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.node("n1")
    job = scene.pending("train")
    scene.head()
    told: list[str] = []
    shown: list[bytes] = []
    write = Screen.write
    monkeypatch.setattr("skyspool.following.note", lambda text: told.append(text) or note(text))
    monkeypatch.setattr(Screen, "write", lambda screen, data: shown.append(data) or write(screen, data))

    def head() -> None:
        wait_until(lambda: any("Waiting for" in text for text in told))
        scene.start(job)
        scene.log(job, "run.log", "hel")
        wait_until(lambda: any("Job started" in text for text in told) and b"hel" in shown)
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


def test_while_it_waits_it_is_told_for_what_and_again_when_that_changes(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("WHY_PAUSE", "WHY_SELDOM", "STATE_PAUSE"):
        monkeypatch.setattr(f"skyspool.following.{pause}", 0.01)
    scene.head()
    hog = one(scene, "H100:4")
    job = scene.pending("next", "H100:2")
    waits = f"job {job} waits for 2 H100 on one node: n1 has"
    looked: list[float] = []
    from skyspool import reasons

    why = reasons.why
    monkeypatch.setattr(reasons, "why", lambda *words, **more: looked.append(1) or why(*words, **more))

    def head() -> None:
        wait_until(lambda: len(looked) > 2)
        scene.ended(hog)
        scene.start(scene.pending("one", "H100:3"), 0)
        seen = len(looked)
        wait_until(lambda: len(looked) > seen + 2)
        scene.ended(job, Status.CANCELLED)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs", str(job))
    thread.join()
    assert ran.code == 103
    assert [line.split(" (")[0] for line in ran.err.splitlines()[1:3]] == [
        f"{waits} 0 free; job 1 holds 4",
        f"{waits} 1 free; job 3 holds 3",
    ]
    assert ran.err.splitlines()[3:] == ["Job finished (status: CANCELLED)."]


def wait_until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


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
    ran = sky("logs", "1", "-s")
    place = home / "sky_logs" / "mycluster" / "1-train"
    assert ran.out == f"Job 1 logs: {place}\n"
    assert (place / "run.log").read_text() == "hello\n"


def test_sync_down_reads_a_spool_on_nfs_4_without_delegations_and_in_pieces(
    scene: Scene, sky: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a log otherwise, and then sleeps, holds up whoever writes or removes it."""
    monkeypatch.setattr(storage, "_without_delegations", (f"{scene.spool.root}/",))
    monkeypatch.setattr(logfiles.read, "__defaults__", (1000,))
    text = "".join(f"line {number}\n" for number in range(500))
    job = one(scene)
    path = scene.log(job, "run.log", text)
    asked: list[bool] = []
    monkeypatch.setattr(storage.os, "open", without_direct(os.open, str(path), asked))
    assert sky("logs", "1", "-s").code == 0
    assert (home / "sky_logs/mycluster/1-train/run.log").read_text() == text
    assert len(asked) > len(text) / 1000 and all(asked)


def without_direct(real: Callable[..., int], path: str, asked: list[bool]) -> Callable[..., int]:
    """os.open without O_DIRECT, which local disks take only of aligned reads. asked: whether it was wanted for path."""

    def opened(name: str, flags: int, *rest: int, **more: int) -> int:
        if name == path:
            asked.append(bool(flags & os.O_DIRECT))
        return real(name, flags & ~os.O_DIRECT, *rest, **more)

    return opened


def test_sync_down_copies_plain_files_alone_empty_ones_too(scene: Scene, sky: Run, home: Path) -> None:
    job = one(scene)
    path = scene.log(job, "run.log", "")
    path.with_name("0-n1.log").symlink_to("/etc/passwd")
    os.mkfifo(path.with_name("1-n2.log"))
    assert sky("logs", "1", "-s").code == 0
    place = home / "sky_logs/mycluster/1-train"
    assert [(copied.name, copied.read_text()) for copied in place.iterdir()] == [("run.log", "")]


def test_several_jobs_only_with_sync_down(scene: Scene, sky: Run, home: Path) -> None:
    scene.node("n1")
    for name in ("train", "train", "eval"):
        scene.log(scene.started(name), "run.log", name)
    scene.pending("waits")
    ran = sky("logs", "1", "2")
    assert (ran.code, ran.err) == (
        2,
        f"error: several jobs can only be had with --sync-down\nhint: skyspool logs {scene.spool.root} 1 2 -s\n",
    )
    ran = sky("logs", "1", "3", "4", "-s")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    assert "note: job 4 has no logs (yet)" in ran.err
    assert sorted(path.name for path in (home / "sky_logs/mycluster").iterdir()) == ["1-train", "3-eval"]
    assert sky("logs", "1", "--status", "-s").code == 2


def test_sync_down_takes_patterns_of_ids_and_names(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    for name in ("train", "train", "eval"):
        scene.log(scene.started(name), "run.log", name)
    for words, count in ((["*"], 3), (["[12]"], 2), (["tr*", "1"], 2), (["eval"], 1)):
        assert len(sky("logs", *words, "-s").out.splitlines()) == count
    assert sky("logs", "x*", "-s").code == 102


def test_a_word_that_is_no_cluster_and_no_job(scene: Scene, sky: Run) -> None:
    scene.pending("train")
    ran = sky("logs", "mycluste", "1")
    assert ran.code == 102
    assert "no job on mycluster has the handle or name 'mycluste', and no cluster is called so" in ran.err
    assert "did you mean 'train'" in sky("logs", "trian").err


def test_the_cluster_may_be_named(scene: Scene, sky: Run) -> None:
    scene.pending("train")
    assert sky("logs", scene.spool.root, "1", "--status").out == "Job 1: PENDING\n"
    assert sky("logs", scene.spool.root, "--status").out == "Job 1: PENDING\n"


def test_what_no_head_has_accepted_yet(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    for word in ("train@00000000000000", "train"):
        ran = sky("logs", word, "--status")
        assert (ran.code, ran.out) == (101, "Job train@00000000000000: PENDING\n")
    ran = sky("logs", "train", "--no-follow")
    assert (ran.code, ran.out) == (0, "")
    assert "note: train@00000000000000 waits in pending/: no head is alive to accept it\n" in ran.err
    scene.node("n1")
    head = Head(scene, prints="hello\n", ends=Status.FAILED, codes=(1,))
    head.seen.clear()
    with head:
        ran = sky("logs", "train@00000000000000")
    assert (ran.code, ran.out) == (100, "hello\n")


def test_without_a_head_the_latest_is_what_waits_for_one(scene: Scene, sky: Run) -> None:
    scene.ended(one(scene))
    scene.dropped("train@00000000000000.yaml")
    assert sky("logs", "--status").out == "Job train@00000000000000: PENDING\n"
    scene.head()  # it may have its reasons to leave the file alone
    assert sky("logs", "--status").out == "Job 1: SUCCEEDED\n"


def test_a_file_that_waits_is_the_latest_where_there_is_no_job(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.dropped("train@00000000000000.yaml")
    assert sky("logs", "--status").out == "Job train@00000000000000: PENDING\n"


@pytest.mark.parametrize(("started", "told"), [(False, "ended before it ran"), (True, "left no output")])
def test_a_job_that_ended_without_output_is_told(scene: Scene, sky: Run, started: bool, told: str) -> None:
    scene.node("n1")
    job = scene.pending("train", setup=True)
    if started:
        scene.start(job)
    scene.ended(job, Status.CANCELLED, reason="cancelled by user")
    ran = sky("logs", "train", "--no-follow")
    assert (ran.code, ran.out) == (103, "")
    assert ran.err == f"note: job 1 {told}: it is CANCELLED (cancelled by user)\n"


def test_a_job_that_ran_and_printed_nothing_is_told(scene: Scene, sky: Run) -> None:
    job = one(scene)
    assert "note: job 1" not in sky("logs", "--no-follow").err  # it may still print
    scene.ended(job)
    ran = sky("logs", "--no-follow")
    assert (ran.code, ran.out, ran.err) == (0, "", "note: job 1 printed nothing: it is SUCCEEDED\n")


def test_a_file_that_a_head_has_just_claimed_is_found_a_moment_later(scene: Scene, sky: Run) -> None:
    path = scene.dropped("train@00000000000000.yaml")
    text = path.read_text()
    path.unlink()

    def head() -> None:
        time.sleep(0.2)
        path.write_text(text)
        scene.accepted(path.name)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs", "train@00000000000000", "--status")
    thread.join()
    assert ran.out == "Job 1: PENDING\n"


def test_without_a_head_it_says_once_that_the_end_will_not_be_told(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyspool.following.SILENCE_PAUSE", 0.05)
    job = one(scene)
    thread = threading.Thread(target=lambda: (time.sleep(1.2), scene.ended(job)))
    thread.start()
    ran = sky("logs")
    thread.join()
    assert ran.err.count("no head is alive on mycluster: the last sign of one was a few secs ago (") == 1
    one(scene)
    assert "no head is alive" in sky("logs", "--no-follow").err
    assert "no head is alive" not in sky("logs", "1").err  # it is over: nothing is missing


def test_only_where_lines_are_left_out_is_that_told(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyspool.following.LINES", 3)
    job = one(scene)
    scene.log(job, "run.log", "a\nb\nc\n")
    scene.ended(job)
    ran = sky("logs")
    assert (ran.out, "only the last" in ran.err) == ("a\nb\nc\n", False)
    scene.log(job, "run.log", "d\n")
    ran = sky("logs")
    assert ran.out == "b\nc\nd\n"
    assert "note: only the last 3 lines of each rank are shown; --tail 0 shows all\n" in ran.err
    assert sky("logs", "--tail", "0").out == "a\nb\nc\nd\n"
    assert sky("logs", "--tail", "1").out == "d\n"


def test_ranks_are_shown_when_their_processes_are_known(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:4")
    scene.node("n2", "H100:4")
    job = scene.start(scene.pending("gang", "H100:4", nodes=2), go=False)
    scene.log(job, "0-n1.log", "one\n")

    def head() -> None:
        time.sleep(0.3)
        scene.go(job, pids=(11, 12))
        time.sleep(0.5)
        scene.ended(job)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs")
    thread.join()
    assert ran.out == "(head, rank=0, pid=11) one\n"


def test_setup_is_shown_with_its_process_where_that_is_told(scene: Scene, sky: Run) -> None:
    job = one(scene, setup=True)
    scene.says("n1", attempts={"1.1": Phase("setup", "setup", pid=55)})
    scene.log(job, "setup.log", "installing\n")

    def head() -> None:
        time.sleep(0.5)
        scene.go(job)
        scene.log(job, "run.log", "running\n")
        time.sleep(0.5)
        scene.ended(job)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs")
    thread.join()
    assert ran.out == "(setup pid=55) installing\nrunning\n"


def test_a_job_that_starts_again_is_followed_again(scene: Scene, sky: Run) -> None:
    job = one(scene)
    scene.log(job, "run.log", "first\n")

    def head() -> None:
        time.sleep(0.5)
        scene.lost(job, again=True)
        scene.node("n2")
        scene.start(job)
        scene.log(job, "run.log", "second\n")
        time.sleep(0.7)
        scene.ended(job)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("logs")
    thread.join()
    assert (ran.code, ran.out) == (0, "first\nsecond\n")


def test_what_comes_in_ticks_is_shown_in_ticks(scene: Scene) -> None:
    job = one(scene)
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", "logs"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    assert started.stdout is not None
    for tick in range(3):
        scene.log(job, "run.log", f"{tick}\r")
        began = time.monotonic()
        assert started.stdout.read(2) == f"{tick}\r".encode()
        assert tick == 0 or time.monotonic() - began < 1
    scene.ended(job)
    assert started.wait(10) == 0
    started.stdout.close()


def test_the_reader_of_a_pipe_may_go_away(scene: Scene) -> None:
    job = one(scene)
    scene.log(job, "run.log", "x" * 1_000_000)
    scene.ended(job)
    for verb in ("logs", "queue", "status"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m skyspool {verb} | true; exit ${{PIPESTATUS[0]}}"],
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 141)
        assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_a_follow_ends_when_its_reader_is_gone_though_the_job_prints_nothing(scene: Scene) -> None:
    one(scene)
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", "logs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None and started.stderr is not None
    while b"Job started" not in started.stderr.readline():
        pass
    started.stdout.close()
    assert started.wait(10) == 141
    assert b"Traceback" not in started.stderr.read()
    started.stderr.close()


def test_on_a_terminal_only_harmless_sequences_pass_and_raw_passes_all(scene: Scene, tmp_path: Path) -> None:
    job = one(scene)
    scene.log(job, "run.log", b"\x1b]0;title\x07\x1b[31mred\x1b[0m 1%\r2%\n")
    scene.ended(job)
    assert b"\x1b[31mred\x1b[0m 1%\r2%\r\n" in on_terminal("logs").out
    assert b"title" not in on_terminal("logs").out
    assert b"\x1b]0;title\x07" in on_terminal("logs", "--raw").out
