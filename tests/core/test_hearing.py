from __future__ import annotations

import itertools

import pytest

from spool_layout.records import NodeStatus
from spoold.core.hearing import Hearing


def status(beat: int, interval: float = 2.0, timeout: float = 0.0, incarnation: int = 1) -> NodeStatus:
    return NodeStatus(1, "n1", "h1", incarnation=incarnation, beat=beat, interval=interval, timeout=timeout)


def test_a_node_is_up_then_out_of_contact_then_down_by_the_observers_clock() -> None:
    hearing = Hearing(30, 5)
    assert hearing.judge(status(1), 0.0, 100.0, "") == "up"
    assert hearing.judge(status(1), 0.0, 124.9, "up") == "up"
    assert hearing.judge(status(1), 0.0, 125.0, "up") == "lost contact"
    assert hearing.judge(status(1), 0.0, 130.0, "lost contact") == "down"
    assert hearing.judge(status(2), 0.0, 131.0, "down") == "up"


def test_the_same_beat_of_another_incarnation_is_a_sign_of_life() -> None:
    """A runner that lost what it knew counts its beats from the beginning."""
    hearing = Hearing(30, 5)
    hearing.judge(status(1), 0.0, 100.0, "")
    assert hearing.judge(status(1, incarnation=2), 0.0, 129.0, "lost contact") == "up"


@pytest.mark.parametrize(
    ("said", "limit"),
    [(status(1, interval=60.0), 180.0), (status(1, timeout=90.0), 90.0), (status(1, interval=1.0, timeout=1.0), 30.0)],
    ids=["driven by cron", "of other settings", "quicker than the spool"],
)
def test_a_runner_is_judged_by_its_own_beat_and_limit_where_they_are_longer(said: NodeStatus, limit: float) -> None:
    hearing = Hearing(30, 5)
    hearing.judge(said, 0.0, 100.0, "")
    assert hearing.judge(said, 0.0, 100.0 + limit - 5.1, "up") == "up"
    assert hearing.judge(said, 0.0, 100.0 + limit - 0.1, "up") == "lost contact"
    assert hearing.judge(said, 0.0, 100.0 + limit, "lost contact") == "down"


def test_an_old_report_is_no_sign_of_death_until_it_was_watched_for_long_enough() -> None:
    hearing = Hearing(30, 5)
    assert hearing.judge(status(1), 9999.0, 0.0, "up") == "up"
    assert hearing.judge(status(1), 9999.0, 29.0, "up") == "up"
    assert hearing.judge(status(1), 9999.0, 30.0, "up") == "down"


SETTINGS = [
    (timeout, margin, interval)
    for timeout, margin, interval in itertools.product((3.0, 8.0, 30.0, 300.0), (0.1, 1.0, 5.0), (0.2, 1.0, 10.0))
    if timeout > margin + interval
]


@pytest.mark.parametrize(("timeout", "margin", "interval"), SETTINGS)
def test_a_node_that_beats_is_never_missed_because_it_is_read_seldom(
    timeout: float, margin: float, interval: float
) -> None:
    """However beats and looks fall, if looks are as far apart as the slack allows."""
    hearing = Hearing(timeout, margin)
    now, verdicts = 0.0, set()
    hearing.judge(status(0, interval), 0.0, now, "")
    pause = hearing.slack() / 1.5
    for _ in range(200):
        now += pause or interval / 10
        beat = int(now / interval)
        verdicts.add(hearing.judge(status(beat, interval), 0.0, now, "up"))
    assert verdicts == {"up"}


def test_time_in_which_the_observer_could_not_look_counts_for_nobody() -> None:
    """A server that was away held up the nodes' beats as it held up the look."""
    hearing = Hearing(30, 5)
    hearing.judge(status(1), 0.0, 0.0, "")
    hearing.expect(2.0)
    assert hearing.judge(status(1), 0.0, 62.0, "up") == "up"
    hearing.expect(64.0)
    assert hearing.judge(status(1), 0.0, 64.0, "up") == "up"
    hearing.expect(90.0)
    assert hearing.judge(status(1), 0.0, 90.0, "up") == "down", "2 s before it was away, and 28 s since it is back"


def test_looks_that_are_a_little_late_excuse_nobody() -> None:
    hearing = Hearing(30, 5)
    hearing.judge(status(1), 0.0, 0.0, "")
    for second in range(0, 30, 4):
        hearing.expect(float(second))
        verdict = hearing.judge(status(1), 0.0, second + 4.0, "up")
    assert verdict == "down"
