"""What a pass looks at, by what woke it; which news are reported at once."""

from __future__ import annotations

import msgspec
import pytest

from spool_layout.records import NodeStatus, Phase
from spoold.node.attention import EVERYTHING, FULL, MOST_APART, SOON, Attention, apart, apart_by_looks, awaited


@pytest.fixture
def attention() -> Attention:
    """After a pass that looked at everything, at 100."""
    made = Attention()
    made.woken(100.0, by_disk=False, bell=b"")
    return made


def test_at_first_and_by_the_clock_all_is_looked_at(attention: Attention) -> None:
    assert Attention().is_due("1.1") and Attention().disk
    assert attention.is_due("1.1") and attention.disk


def test_who_rang_is_looked_at_and_nobody_else(attention: Attention) -> None:
    attention.woken(100.5, by_disk=False, bell=b"1.1\n12.1\n")
    assert [attention.is_due(key) for key in ("1.1", "12.1", "2.1")] == [True, True, False]
    assert not attention.disk and not attention.everything


def test_the_disk_tells_of_the_disk(attention: Attention) -> None:
    attention.woken(100.5, by_disk=True, bell=b"")
    assert attention.disk and not attention.is_due("1.1")


@pytest.mark.parametrize(
    ("at", "bell"), [(100.5 + EVERYTHING, b"1.1\n"), (100.5, b"1.1\n" * (FULL // 4))], ids=["later", "full"]
)
def test_all_is_looked_at_once_in_a_while_and_where_the_bell_was_full(
    attention: Attention, at: float, bell: bytes
) -> None:
    attention.woken(at, by_disk=False, bell=bell)
    assert attention.everything and attention.disk and attention.is_due("2.1")
    attention.woken(at + 0.5, by_disk=False, bell=b"1.1\n")
    assert not attention.everything


def test_after_a_pass_that_failed_all_is_looked_at(attention: Attention) -> None:
    attention.forget()
    attention.woken(100.1, by_disk=False, bell=b"1.1\n")
    assert attention.everything


PLAIN = NodeStatus(format=1, node="n1", host="h", incarnation=1, beat=1, interval=1.0)


def status(**more: object) -> NodeStatus:
    return msgspec.structs.replace(PLAIN, **more)


def test_nobody_waits_to_hear_what_was_begun_read_or_forgotten() -> None:
    old = status(seen=(1, 1), read=(1, 1), attempts={"1.1": Phase("ended")})
    new = status(seen=(1, 2), read=(1, 2), attempts={"2.1": Phase("starting"), "3.1": Phase("running", pid=7)})
    assert not awaited(new, old) and not awaited(old, old)


@pytest.mark.parametrize("phase", ["ready", "exited", "ended", "lost", "never"])
def test_a_head_waits_for_what_it_acts_on(phase: str) -> None:
    old = status(attempts={"1.1": Phase("running", pid=7)})
    assert awaited(status(attempts={"1.1": Phase(phase)}), old)
    assert not awaited(status(attempts={"1.1": Phase(phase)}), status(attempts={"1.1": Phase(phase)}))


def test_all_else_that_a_node_says_is_reported_at_once() -> None:
    assert awaited(status(), None)
    assert awaited(status(notes=["the local disk is full"]), status())
    assert awaited(status(left=True), status())


def test_reports_keep_apart_where_many_attempts_end_one_after_the_other() -> None:
    assert 0.0 < apart(1) <= 0.001  # alone it is told at once
    assert apart(8) <= 0.002 and apart(16) <= 0.008  # of few each, nearly
    assert apart(1) < apart(8) < apart(100) == apart(10_000) == MOST_APART < SOON


def test_where_heads_look_for_reports_these_keep_apart_by_how_many_attempts_still_run() -> None:
    def gap(running: int, over: int = 0) -> float:
        attempts = {f"{ident}.1": Phase("running" if ident < running else "ended") for ident in range(running + over)}
        return apart_by_looks(status(attempts=attempts), 2.0)

    assert gap(0) == gap(0, over=100) == 0.0  # the last end, and a single one, are told at once
    assert gap(8) <= 0.25  # no later than the head's next look just after something happened
    assert gap(8) < gap(32) < gap(100) == gap(10_000) == 1.0  # half an interval
