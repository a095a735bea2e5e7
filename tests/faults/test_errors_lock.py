"""The lock of the heads with an error at each call that filelock makes, replies that lie among them: a call is carried
out, and says that its name was taken, or is gone, as a file server says to one that was sent twice.

The loop of a head runs as `spoold head` runs it, up to where it leads: there it renews the lock once, and is told to
end. Another head wants the lock meanwhile, and has it afterwards. Never do both hold it; nobody dies or spins of the
error; and somebody leads within the lock's threshold. Where they wait the clock moves.
"""

from __future__ import annotations

import errno
import itertools
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock._filesystem._files as files
import filelock._soft._read_write._heartbeat as heartbeat
import filelock._soft._read_write._lock as waiting
import filelock._soft._read_write._participant as participant
import filelock._soft._read_write._storage as records
import filelock._soft._strict._publication as links
import pytest

from spool_layout import leadership, settings
from spool_layout.errors import Deposed
from spool_layout.leadership import HeadLock
from spool_layout.modes import mode_of
from spool_layout.paths import Spool
from spool_layout.storage import Disk
from spoold.head import loop
from spoold.head.loop import Head
from tests.faults.port import EVERY, IS_THERE, NAMES, Fault, Port, trouble, watched
from tests.faults.test_errors_daemons import Still

BEAT, THRESHOLD = 60, 240  # seconds; longer than a story takes, so that filelock's own thread renews nothing
FAULT_OF_OURS = "a fault in this program"  # in the log
FEW, SOME = 37, 7  # of so many calls one: most of the 1350 are of looks that are alike
LATE = 10.0  # seconds beyond the threshold: a pause after a failure, and a look or two
LYING = (
    Fault("done, says EEXIST", errno.EEXIST, frozenset({"create"}) | IS_THERE, done=True),
    Fault("done, says ENOENT", errno.ENOENT, frozenset({"create"}) | NAMES, done=True),
)
FAILING = (
    Fault("EIO", errno.EIO, EVERY),
    Fault("done, says EIO", errno.EIO, frozenset({"create", "write", "fsync"}) | NAMES, done=True),
    Fault("ESTALE", errno.ESTALE, EVERY),
)


class Clock:
    """Every clock of the lock and of the loop; it moves where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def clock_gettime(self, _: int) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (leadership, loop, waiting, heartbeat):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(participant, "sleep", made.sleep)
    return made


@pytest.fixture(autouse=True)
def _filelock(port: Port, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What filelock takes for `os` is the port as well, and so is every lock of a head."""
    for module in (records, links, files, pathlib):
        monkeypatch.setattr(module, "os", port)
    monkeypatch.setattr(loop, "HeadLock", watched(port, HeadLock))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGIO)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Two:
    """A head, and the lock of another one."""

    def __init__(self, folder: Path, port: Port, clock: Clock, fresh: bool) -> None:
        """fresh: nobody ever held the lock."""
        self.port, self.clock, self.spool = port, clock, Spool(folder / "spool")
        for path in self.spool.directories:
            os.makedirs(path, mode_of(os.path.relpath(path, self.spool.root), "single"))
        beats = f"lock_heartbeat: {BEAT}s\nlock_threshold: {THRESHOLD}s\n"
        text = "".join(line for line in settings.first_text("test", False).splitlines(True) if line[:5] != "lock_")
        Path(self.spool.settings).write_text(text + beats)
        self.head = Head(self.spool.root, Disk(), str(folder / "state"))
        self.head.waker.close()
        # The two places where time passes, and where the lock is ours: all between is the real loop.
        self.head.waker = Still(clock.sleep)  # type: ignore[assignment]
        self.head.lead = self.lead  # type: ignore[method-assign]
        self.other = watched(port, HeadLock)(self.spool, self.head.settings)
        self.led = 0
        if not fresh:
            lock = HeadLock(self.spool, self.head.settings)
            assert lock.acquire(0)
            lock.release()

    def run(self) -> None:
        began = self.clock.now
        assert self.head.run() == 0
        assert self.led and self.clock.now - began <= THRESHOLD + LATE
        assert self.takes_over(self.other)
        self.renew(self.other)
        self.give_back(self.other)
        assert self.takes_over(self.head.lock)
        self.give_back(self.head.lock)
        self.is_cheap()

    def lead(self) -> None:
        self.one_holds()
        self.led += 1
        self.renew(self.head.lock)
        if self.head.lock.lost:
            raise Deposed("the lock was lost to another head")
        assert not self.tries(self.other)
        self.one_holds()
        self.head.stop()

    def one_holds(self) -> None:
        assert sum(lock.held and not lock.lost for lock in (self.head.lock, self.other)) == 1

    def renew(self, lock: HeadLock) -> None:
        """What filelock's thread does once in a heartbeat."""
        hold = lock._lock._hold
        assert hold is not None
        self.clock.sleep(BEAT)
        with self.port:
            hold.refresh(lock._lock, lock._lock._report_compromise)

    def tries(self, lock: HeadLock) -> bool:
        """One try of a head's loop: an error is told, and another head may have better luck."""
        try:
            return lock.acquire(2 * lock.interval)
        except OSError:
            assert self.port.struck
            lock.release()
            return False

    def takes_over(self, lock: HeadLock) -> bool:
        """A head that stands by has it within the threshold."""
        end = self.clock.now + THRESHOLD + LATE
        while not (lock.is_free() and self.tries(lock)):
            if self.clock.now > end:
                return False
            self.clock.sleep(lock.interval)
        self.one_holds()
        return True

    def give_back(self, lock: HeadLock) -> None:
        lock.release()
        assert not lock.held

    def is_cheap(self) -> None:
        """filelock goes by HEAD, and need not try 64 names at each look."""
        epoch, head = (Path(f"{self.spool.head_lock}.rw/gen/{name}").read_bytes() for name in ("epoch", "HEAD"))
        assert len(epoch) == 33 and head.startswith(epoch)


def stories(folder: Path, port: Port, clock: Clock, fault: Fault, fresh: bool, every: int = 1) -> int:
    """The story once for each call that meets the fault; how often."""
    numbers = itertools.count()
    return trouble(port, fault, False, lambda: Two(folder / str(next(numbers)), port, clock, fresh).run(), every)


by_lie = pytest.mark.parametrize("fault", LYING, ids=lambda fault: fault.name)
by_error = pytest.mark.parametrize("fault", FAILING, ids=lambda fault: fault.name)


@by_lie
def test_no_lie_about_a_name_gives_two_heads_the_lock_or_none(
    folder: Path, port: Port, clock: Clock, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    assert stories(folder, port, clock, fault, fresh=True) > 20
    assert FAULT_OF_OURS not in caplog.text


@by_error
def test_no_error_of_some_calls_gives_two_heads_the_lock_or_none(
    folder: Path, port: Port, clock: Clock, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    assert stories(folder, port, clock, fault, fresh=False, every=FEW) > 1
    assert FAULT_OF_OURS not in caplog.text


@pytest.mark.faults
@by_error
def test_no_error_of_a_call_gives_two_heads_the_lock_or_none(
    folder: Path, port: Port, clock: Clock, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    assert stories(folder, port, clock, fault, fresh=False, every=SOME) > 10
    assert FAULT_OF_OURS not in caplog.text
