"""Locks between two hosts: one holds, the other wants; then the first gives back, and the second must get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from skyspool.doctor.meeting import Meeting
from skyspool.doctor.probes import BUSY, LATEST, locked, seconds_until, words_of

if TYPE_CHECKING:
    from spool_layout.leadership import HeadLock

EXCLUDES, BOTH, STUCK = "excludes", "both", "stuck"  # what became of a lock that two hosts wanted
LOCK_BEAT, LOCK_STALE = 1.0, 5.0  # seconds; of the lock of the heads that is tried


def kernel_lock(meeting: Meeting, name: str) -> str:
    """Side a holds it and b wants it, then a gives it back: EXCLUDES, BOTH, STUCK, or an error. The same for both."""
    if meeting.side == "a":
        with locked(meeting.work, name) as trouble:
            meeting.say(f"held-{name}", trouble)
            meeting.hear(f"tried-{name}")
        meeting.say(f"free-{name}")
        return str(meeting.hear(f"result-{name}"))
    trouble = meeting.hear(f"held-{name}")
    with locked(meeting.work, name) as while_held:
        meeting.say(f"tried-{name}")
        meeting.hear(f"free-{name}")
    result = trouble or _verdict(while_held, lambda: _is_free(meeting.work, name))
    meeting.say(f"result-{name}", result)
    return result


def _is_free(folder: str, name: str) -> bool:
    """Whether it can be had within LATEST."""

    def free() -> bool:
        with locked(folder, name) as trouble:
            return not trouble

    return seconds_until(free) is not None


def _verdict(while_held: str, is_free: Callable[[], bool]) -> str:
    """From what came of trying to take it while the other side held it, and afterwards."""
    if while_held == BUSY:
        return EXCLUDES if is_free() else STUCK
    return while_held or BOTH


def head_lock(meeting: Meeting) -> str:
    """The same of the lock by which heads agree who should lead."""
    from spool_layout.leadership import HeadLock
    from spool_layout.paths import Spool
    from spool_layout.settings import Settings

    spool = Spool(meeting.work)
    meeting.disk.make_dir(spool.locks)
    lock = HeadLock(spool, Settings(1, "", "probe", lock_heartbeat=LOCK_BEAT, lock_threshold=LOCK_STALE))
    try:
        return _hold(meeting, lock) if meeting.side == "a" else _want(meeting, lock)
    finally:
        lock.release()


def _hold(meeting: Meeting, lock: HeadLock) -> str:
    meeting.say("held", _taken(lock, LATEST))
    meeting.hear("tried")
    lock.release()
    meeting.say("free")
    return str(meeting.hear("result"))


def _want(meeting: Meeting, lock: HeadLock) -> str:
    trouble = meeting.hear("held") or ""
    while_held = _taken(lock, LOCK_BEAT / 2)
    meeting.say("tried")
    meeting.hear("free")
    result = trouble or _verdict(while_held, lambda: not _taken(lock, LOCK_STALE))
    meeting.say("result", result)
    return result


def _taken(lock: HeadLock, seconds: float) -> str:
    """ "" where the lock could be taken, BUSY where not, or an error."""
    try:
        return "" if lock.acquire(seconds) else BUSY
    except OSError as error:
        return words_of(error)
