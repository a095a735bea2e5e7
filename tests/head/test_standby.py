"""A head that stands by: how long after the leader's last renewal it leads, at every phase between that renewal and its
own looks. The lock is filelock's own, in memory; the clock is moved, and only sleeps take time by it: what calls take
comes on top."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout import leadership
from spool_layout.leadership import HeadLock
from spool_layout.mounts import Mount
from spoold.head.loop import Head
from tests.e2e.cluster import Cluster

PHASES = 10  # of the last renewal between two looks; the first one is right after a look, which is the worst
LOOKS = 3  # before the last renewal
ROUNDED = 0.01  # seconds: what some sleeps take longer than asked for, since they are rounded up to a millisecond
# lock_heartbeat and lock_threshold: as `init` writes them for a network file system and for a local disk; where it
# writes none; the least that spool(5) promises to keep; a long one.
NETWORK = (12.0, 30.0)
SETTINGS = [NETWORK, (20.0, 50.0), (1.0, 4.0), (1.0, 2.5), (1.0, 20.0)]


class Standby:
    """A leader's lock, and a head that stands by for it and ends as soon as it leads. Time passes in its sleeps."""

    def __init__(self, folder: Path, beat: float, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = Cluster(folder, lock_heartbeat=f"{beat}s", lock_threshold=f"{threshold}s")
        self.now, self.sleeps = 1000.0, 0
        self.during: Callable[[float], None] = self.sleep
        # A threshold of 30 s at 11 phases would take five minutes in real time.
        for clock in ("monotonic", "perf_counter"):  # the lock waits by the latter
            monkeypatch.setattr(time, clock, lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(signal, "signal", lambda *_: None)  # the head's handlers stay out of this process

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, seconds: float) -> bool:
        self.sleeps += 1
        self.during(seconds)
        self.now += 0.001
        return False

    def begin(self) -> None:
        """A leader that has just taken the lock, and a head that stands by from now on."""
        self.sleeps = 0
        self.head = Head(self.cluster.spool.root, state=str(self.cluster.folder / "state"))
        self.leader = HeadLock(self.cluster.spool, self.head.settings)
        assert self.leader.acquire(0.0)
        # Where it waits the clock is moved, and it ends where it would lead: all between is the real loop.
        self.head.waker.wait = self.wait  # type: ignore[method-assign]
        self.head.lead = self.head.stop  # type: ignore[method-assign]

    def end(self) -> None:
        self.head.waker.close()
        self.leader.release()

    def renew(self) -> None:
        """What filelock's thread does, by another clock, every lock_heartbeat."""
        hold = self.leader._lock._hold
        assert hold is not None
        assert hold.participant.heartbeat() == ("ok", None)

    def takeover(self, phase: float) -> float:
        """Seconds from the last renewal of a leader whose host dies to the lead of the next one. phase: where between
        two looks of the latter that renewal was, 0 to 1."""
        died = 0.0

        def last_renewal(seconds: float) -> None:
            nonlocal died
            self.sleep(phase * seconds)
            if self.sleeps == LOOKS:
                self.renew()
                died = self.now
            self.sleep((1 - phase) * seconds)

        self.begin()
        self.during = last_renewal
        self.head.run()
        self.end()
        return self.now - died


@pytest.fixture(params=SETTINGS, ids=[f"{beat:g}s-{threshold:g}s" for beat, threshold in SETTINGS])
def standby(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standby]:
    if request.param == NETWORK:
        monkeypatch.setattr(leadership, "mount_of", lambda _: Mount("nfs", "", "", ""))
    yield Standby(folder, *request.param, monkeypatch)


def test_a_head_leads_within_the_threshold_wherever_between_its_looks_the_last_renewal_was(standby: Standby) -> None:
    """And not before the leader would have given up the lock by itself."""
    took = [standby.takeover(phase / PHASES) for phase in range(PHASES + 1)]
    print(f"{min(took):.3f} to {max(took):.3f} s")
    assert max(took) <= standby.head.settings.lock_threshold + ROUNDED
    assert min(took) >= standby.leader._lock.stale_threshold


def test_a_lock_that_is_renewed_is_only_looked_at(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    """And about once an interval. Also where each renewal takes a third of the time between two looks: an attempt costs
    a file server 40 calls, a look three."""
    standby.begin()
    looked, known = 0, HeadLock.known
    beat, looks = standby.head.settings.lock_heartbeat, standby.head.lock.interval
    end, renewed = standby.now + 20 * beat, standby.now

    def renewals(seconds: float) -> None:
        nonlocal renewed
        wakes = standby.now + seconds
        if wakes >= renewed + beat + looks / 3:
            renewed += beat + looks / 3
            standby.now = renewed
            standby.renew()
        standby.now = wakes
        if standby.now > end:
            standby.head.stop()

    standby.during = renewals

    def counted(lock: HeadLock) -> dict[str, bytes]:
        nonlocal looked
        looked += 1
        return known(lock)

    monkeypatch.setattr(HeadLock, "known", counted)
    monkeypatch.setattr(HeadLock, "acquire", lambda *_: pytest.fail("it asked for the lock"))
    standby.head.run()
    standby.end()
    print(f"{looked} looks in {20 * beat / looks:g} intervals")
    assert 0.95 < looked * looks / (20 * beat) < 1.1


def test_a_lock_of_which_a_record_cannot_be_read_is_not_free(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreadable is not gone. What is gone is: the holder's record, or the directory that it stood in."""
    standby.begin()
    lock, read = standby.head.lock, HeadLock._record
    answers = {"error": OSError(errno.EIO, "no answer")}

    def record(lock: HeadLock, name: str) -> bytes:
        if answers:
            raise answers["error"]
        return read(lock, name)

    monkeypatch.setattr(HeadLock, "_record", record)
    assert lock.holders() is None and not lock.is_free()
    answers["error"] = FileNotFoundError(errno.ENOENT, "gone")
    assert lock.holders() == {} and lock.is_free()
    answers.clear()
    assert not lock.is_free()
    standby.leader.release()
    assert lock.is_free()
    standby.end()
