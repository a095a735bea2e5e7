"""Seeded runs of whole clusters in virtual time, and proofs that they can fail.

One run is four days of a cluster of 2 or 3 heads and 2 to 4 nodes on 3 to 5 hosts; intervals are those of a site that
is driven by cron (beats and looks 20 minutes apart, a node is lost after 80). A cluster-day holds, in the mean:
10 jobs (a fifth of them gangs, half of them to run again elsewhere; a second to four hours long), 3 edits, cancels and
the like, 24 faults (kills of heads, runners, starters, supervisors; power losses; heads and runners that are stopped,
hosts that sleep, are cut off, have a slow server or lose replies; a server that restarts, clocks that are set, a lock
of the heads that is wrong), 6 heads that took over, 16 processes of jobs that ran, 6,700 calls to the file server.
After each run there is peace, until every job has ended (that time is not counted); then the history is judged.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from spool_layout.leadership import Epoch
from spoold.core import hearing
from spoold.head.recover import Recovery
from spoold.node import progress, workplace
from tests.simulation.plan import make
from tests.simulation.shrinking import Shrinker, kind, run, story, until

CHUNKS, SEEDS = 100, 5  # 100 tests of 5 runs of 4 days: 2,000 cluster-days; short, so that no core is idle at the end
FEW = 3  # runs in `make test`


def expect_sound(seed: int) -> None:
    """A run of this seed ends well; else its story is told, made smaller."""
    outcome = run(make(seed))
    if outcome.faults:
        pytest.fail(story(Shrinker(outcome).smallest()), pytrace=False)


@pytest.mark.parametrize("seed", range(FEW))
def test_a_few_days_with_faults_end_well(seed: int) -> None:
    expect_sound(seed)


@pytest.mark.simulation
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_two_thousand_days_with_faults_end_well(chunk: int) -> None:
    for seed in range(1000 + chunk * SEEDS, 1000 + (chunk + 1) * SEEDS):
        expect_sound(seed)


def test_one_seed_is_one_run_whatever_the_order_of_hashes() -> None:
    """The check sum of the whole story, here and in two processes that hash otherwise."""
    words = "from tests.simulation.shrinking import *; from tests.simulation.plan import make; "
    words += "print(run(until(make(2), 1)).figures['mark'])"
    told = [
        subprocess.run(
            [sys.executable, "-c", words], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert {int(text) for text in told} == {run(until(make(2), 1)).figures["mark"]}


# ---- it can fail: what is left out here is found, and soon


def never(*_: Any, **__: Any) -> None:
    """In place of a check."""


def always(*_: Any, **__: Any) -> bool:
    """In place of a rule."""
    return True


BROKEN: list[tuple[str, tuple[str, ...], str, Any, str, Callable[..., object]]] = [
    ("no head looks for a newer epoch", (), "WentBack|books|became", Epoch, "check", never),
    ("claims of former heads are left", (), "became|were carried out", Recovery, "clear", never),
    ("the time rule is ignored", ("cut", "stop runner"), "P4", workplace.Workplace, "keeps_time", always),
    ("nobody looks for what is left", ("kill supervisor",), "P3|lives", progress, "processes", lambda attempt: []),
    ("nodes are given up too soon", ("cut", "slow"), "P3|P4", hearing.Hearing, "limit", lambda self, status: 1000.0),
]


@pytest.mark.parametrize(
    ("only", "words", "place", "name", "instead"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_what_is_left_out_is_missed(
    monkeypatch: pytest.MonkeyPatch,
    only: tuple[str, ...],
    words: str,
    place: Any,
    name: str,
    instead: Callable[..., object],
) -> None:
    monkeypatch.setattr(place, name, instead)
    faults = (run(make(seed, only=only)).faults for seed in range(40))
    first = next((found for found in faults if found), ["nothing was found"])
    assert re.search(words, " ".join(first)), first


def test_a_failing_run_is_made_smaller_and_fails_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "processes", lambda attempt: [])
    only = ("kill supervisor",)
    failed = next(outcome for seed in range(20) if (outcome := run(make(seed, only=only))).faults)
    shrinker = Shrinker(failed)
    shrinker.left = 30
    smaller = shrinker.smallest()
    assert kind(smaller) == kind(failed)
    assert len(smaller.plan.faults) + len(smaller.plan.deeds) < (len(failed.plan.faults) + len(failed.plan.deeds)) / 4
    assert smaller.faults[0] in story(smaller)
