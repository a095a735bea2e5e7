"""Clients, heads, runners, starters, supervisors and jobs are killed at each of their system calls, by strace.

killing.py says how, kill_stories.py what they do meanwhile. Each story is told in a process of its own.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import tracing
from tests.faults.tracing import Astray, Call, alone, forked, killed_at, listing

# These tests fork a process of pytest's, which may have threads; the fork makes system calls only.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CASES = [
    "client-submit",
    "client-cancel_as_client",
    "head-accept",
    "head-cancel",
    "head-edit",
    "head-edit_at_the_start",
    "head-delete",
    "head-lose_a_node",
    "head-gang",
    "head-take_back",
    "head-keep_ledgers",
    "head-once",
    "head-prune",
    "head-lock",
    "takeover-accept",
    "takeover-keep_ledgers",
    "node-first_start",
    "node-take_orders",
    "node-start_a_starter",
    "node-report",
    "node-see_an_end",
    "node-stop",
    "node-stop_before_it_began",
    "node-lapse",
    "node-restart",
    "node-restart_orphaned",
    "node-restart_ended",
    "node-restart_ordered",
    "node-reboot",
    "node-lose_the_local_directory",
    "node-leave",
    "job-starter",
    "job-supervisor",
    "job-supervisor_goes_on",
    "job-supervisor_stopped",
    "job-supervisor_stopped_between",
    "job-job_setup",
    "job-job_run",
]


def test_every_story_is_told() -> None:
    words = "from tests.faults.kill_stories import TALES; print(*TALES)"  # who imports it has a spool id of its own
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    assert sorted(CASES) == sorted(told.split())


@pytest.fixture(scope="session", autouse=True)
def _strace() -> None:
    if why := tracing.why_not():
        pytest.skip(f"{why}: kills at system calls are NOT TESTED")


@functools.cache
def alone_in_proc() -> tuple[str, ...]:
    """Words ahead of a command that let it see its own processes only, where that may be done: runners look at all."""
    words = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else ()
    except OSError:
        return ()


def tell(case: str, *only: str) -> None:
    words = [*alone_in_proc(), sys.executable, "-m", "tests.faults.kill_stories", case, *only]
    told = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=1100)
    print(told.stdout)
    assert told.returncode == 0, f"{told.stdout}\n{told.stderr}"


# ---- strace itself


@pytest.fixture
def two(tmp_path: Path) -> Callable[[], None]:
    """An act of a few calls: two files are renamed."""
    for name in ("a", "b"):
        (tmp_path / name).touch()

    def act() -> None:
        for name in ("a", "b"):
            os.rename(tmp_path / name, tmp_path / f"{name}.new")

    return act


def test_a_kill_comes_before_the_call_takes_effect(tmp_path: Path, two: Callable[[], None]) -> None:
    b, a = (tuple(f"{tmp_path}/{name}{end}" for end in ("", ".new")) for name in "ba")
    second = Call("rename", 2, b, (*a, *b))
    assert killed_at(forked(two), second).code == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["a.new", "b"]


def test_a_listing_tells_the_calls_below_a_directory_and_no_others(tmp_path: Path, two: Callable[[], None]) -> None:
    found = listing(forked(lambda: (two(), os.listdir("/"))), [str(tmp_path)])
    assert [(call.name, call.number) for call in found] == [("rename", 1), ("rename", 2)]


def test_a_run_that_is_not_killed_or_killed_elsewhere_is_an_error(tmp_path: Path, two: Callable[[], None]) -> None:
    calls = listing(forked(two), [str(tmp_path)])
    for name in ("a", "b"):
        os.rename(tmp_path / f"{name}.new", tmp_path / name)
    with pytest.raises(Astray, match="came to 2 calls"):
        killed_at(forked(two), calls[1]._replace(number=3))
    for name in ("a", "b"):
        os.rename(tmp_path / f"{name}.new", tmp_path / name)
    with pytest.raises(Astray, match="instead of"):
        killed_at(forked(two), calls[1]._replace(number=1))


def test_an_act_goes_its_way_without_strace(tmp_path: Path, two: Callable[[], None]) -> None:
    assert alone(forked(two)) == 0
    assert sorted(os.listdir(tmp_path)) == ["a.new", "b.new"]


# ---- the stories


def test_a_starter_that_is_killed_at_any_call_starts_each_job_once() -> None:
    """One of those below, here so that `make test` has one."""
    tell("job-starter", "kills")


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES)
def test_whoever_is_killed_at_any_call_the_next_one_makes_it_good(case: str) -> None:
    """And an error from the kernel at some of these calls is waited out or told. Both in one test, since what takes
    longest is to find the calls."""
    tell(case)
