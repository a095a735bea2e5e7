"""Who leads: a lock that says who should, an epoch that protects the data when the lock was wrong.

The lock is the write lock of filelock's SoftReadWriteLock on locks/head: of filelock's locks it is the one that
changes hands on NFS when the holder's host died or froze (measured), one threshold later, by the waiting host's own
clock. It is a hint. A holder that was paused beyond the threshold goes on as if nothing had happened; what stops it
from doing harm is the epoch:

- To lead, a head makes its claim directory claims/EPOCH.TOKEN/, puts an empty events/EPOCH.jsonl there if absent,
  makes that durable and lists again; if a higher epoch is listed, it has lost and appends nothing.
- Its first record seals all earlier epochs (see history.py).
- After each commit, before anything is projected, it lists events/ by path: a newer epoch means deposed.
- It moves users' files only through its claim directory, which the next head empties and removes.

Cut anywhere: an epoch file without a whole first record holds nothing, and its head has done nothing. An empty claim
directory is removed by the next head.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from spool_layout import history
from spool_layout.errors import Damaged, Deposed
from spool_layout.events import AnyEvent, Restored, Sealed, encode_together
from spool_layout.holder import Holder
from spool_layout.mounts import mount_of
from spool_layout.paths import Spool
from spool_layout.records import Leader
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.storage import Disk, read_once, without_delegation

if TYPE_CHECKING:
    from filelock import SoftReadWriteLock
    from filelock._soft._read_write._participant import HeartbeatOutcome

log = logging.getLogger("spoold.head")

LOOK = 2.8  # seconds: a look costs a server of NFS 4 three calls, and a standby head may cost it two a second
NEAR = 1.0  # the same on a disk of this host: a holder that died is followed by the next look
WHOLE = 20  # renewals there of which one is filelock's own
LOOKS = 10  # within a threshold, at least: what a look may come late has to fit in beside the two waits below
LEAST_THRESHOLD = 1.1  # of the lock, in its heartbeats: filelock wants more than one


class Epoch:
    """One head's term. Made by `take`; gone when any call raises Deposed or OSError."""

    def __init__(self, spool: Spool, disk: Disk, number: int, token: str) -> None:
        self.spool, self.disk, self.number, self.token = spool, disk, number, token
        self.file = spool.events_of(number)
        self.claims = spool.claim_dir(number, token)
        self.offset = 0
        self.broken = False

    def append(self, events: list[AnyEvent]) -> int:
        """Commit events: one write, one fsync, then the look whether a newer head leads. The bytes now in the file.

        After a failure this term is over: what the file holds is for the next epoch to find out.
        """
        if self.broken:
            raise Deposed(f"epoch {self.number} ended with a failed write")
        data = encode_together(events)
        try:
            self.disk.append(self.file, data, self.offset)
        except OSError:
            self.broken = True
            raise
        self.offset += len(data)
        self.check()
        return self.offset

    def check(self) -> None:
        """Deposed if a newer epoch is listed."""
        newest = history.epochs(self.spool, self.disk)[-1]
        if newest > self.number:
            self.broken = True
            raise Deposed(f"epoch {newest} leads, this head had epoch {self.number}")


def take(spool: Spool, disk: Disk, above: int = 0) -> Epoch | None:
    """Claim the next epoch: its claim directory first, then its number. None: another head was faster.

    above: it shall be higher than this one as well, of which a restored spool knows nothing.
    """
    listed = history.epochs(spool, disk)
    number = max(listed[-1] if listed else 0, above) + 1
    epoch = Epoch(spool, disk, number, secrets.token_hex(4))
    disk.make_dir(epoch.claims, 0o700)
    disk.sync(spool.claims)
    won = disk.publish_new(epoch.file, b"")
    if not won or history.epochs(spool, disk)[-1] > number:
        disk.remove_dir(epoch.claims)
        return None
    return epoch


def seal(
    epoch: Epoch,
    leader: Leader,
    now: float,
    restored: Callable[[State], Restored] | None = None,
    known: history.Stock | None = None,
) -> history.Stock:
    """Read what counts and write it down as the first record of the epoch. restored: makes what that record says of a
    spool that is recovered, so that there is no moment in which one of the two is durable alone. known: what was read
    just before the epoch was claimed; its state is taken over where no more counts by now."""
    try:
        stock = history.take_stock(epoch.spool, epoch.disk, epoch.number, known)
    except Damaged:
        epoch.check()  # a head of a newer epoch may have packed away what was to be read here
        raise
    more = restored(stock.state) if restored else None
    first = Sealed(
        epoch=epoch.number, seals=stock.seals, generation=stock.generation, leader=leader, at=now, restored=more
    )
    stock.state.apply(first)
    epoch.append([first])
    return stock._replace(ended=stock.ended + [remnant.id for remnant in more.jobs]) if more else stock


def open_locks_without_delegations() -> None:
    """Let filelock open what other heads replace, rewrite and remove as everything here is opened (storage.py).

    Else a leader whose host dies has delegations of gen/HEAD and of its own record (which filelock reads before it
    rewrites it): the next one would hang for a lease. filelock has no setting for that (4.3.1); tests tell when this no
    longer reaches it.
    """
    from filelock._soft._read_write import _storage

    plain = _storage.OsFiles._attempt_open
    if getattr(plain, "without_delegations", False):
        return

    def opened(self: _storage.OsFiles, path: str, flags: int) -> int | OSError:
        return plain(self, path, flags | without_delegation(path))

    def read(self: _storage.OsFiles, path: str) -> bytes | None:
        """filelock asks for a MiB at once; without a cache in between the server would be asked for all of it."""
        try:
            return read_once(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return None
            raise

    # Replaced in filelock's class, since its lock makes this object itself and takes none from outside; the mark keeps
    # a second lock of this process from wrapping the wrapper.
    opened.without_delegations = True  # type: ignore[attr-defined]
    _storage.OsFiles._attempt_open = opened  # type: ignore[method-assign]
    _storage.OsFiles.read = read  # type: ignore[method-assign]


class HeadLock:
    """The lock on locks/head, and whether it was lost.

    Waiting inside the lock costs a file server 20 calls a poll, renewing it as many a time (filelock 4.3.1 on NFS 3
    and 4.2). So a head that stands by only looks at the holder's record (`is_free`: two calls). What passes from the
    last renewal until another head leads is

        interval     at most, until a look sees that renewal,
      + patience     in which the next one should have been seen; then one attempt, with which filelock's clock begins,
      + threshold    of filelock's own, at whose end the next attempt takes the lock;

    a look is timed to fall on the end of each wait (`pause`), and together they are `lock_threshold`, from two and a
    half heartbeats on. What the calls themselves take comes on top.

    On a disk of this host alone the kernel tells when the holder is dead (holder.py): the next look then takes its
    record away, as its own release would have, and the lock. There a holder renews its record itself, which costs two
    calls; filelock's own renewal, each WHOLE times, also finds what else was done to its files.
    """

    def __init__(self, spool: Spool, settings: Settings) -> None:
        from filelock import SoftReadWriteLock, Timeout

        self._timeout = Timeout
        try:
            open_locks_without_delegations()
        except (ImportError, AttributeError) as error:
            log.warning("filelock has changed: where a host dies, another may lead a minute late on NFS 4: %s", error)
        self._folder = os.path.dirname(spool.head_lock)
        self._records_folder = spool.lock_records
        self._epoch_file = os.path.join(f"{spool.head_lock}.rw", "gen", "epoch")
        self.lost = False
        self.held = False
        self.when_lost: Callable[[], object] = lambda: None  # called from another thread
        beat, limit = settings.lock_heartbeat, settings.lock_threshold
        self._holder = Holder(spool) if mount_of(spool.root).of_one_kernel else None
        # seconds between two looks
        self.interval = min(NEAR if self._holder else LOOK, beat / 2, limit / LOOKS)
        self._threshold = max(limit - beat - 2 * self.interval, LEAST_THRESHOLD * beat)
        self._patience = max(limit - self._threshold - self.interval, beat + self.interval / 2)
        self._records: dict[str, bytes] | None = None
        self._looked, self._due = float("-inf"), 0.0  # when it was looked last; from when on an attempt is worth while
        self._tried = False  # whether filelock's clock runs for what the records say now
        self._lock: SoftReadWriteLock = SoftReadWriteLock(
            spool.head_lock,
            is_singleton=False,
            heartbeat_interval=settings.lock_heartbeat,
            stale_threshold=self._threshold,
            poll_interval=self.interval / 2,
            on_compromise=lambda _: self._lose(),
        )

    def _lose(self) -> None:
        self.lost = True
        self.when_lost()

    def is_free(self) -> bool:
        """Whether it is worth trying: nobody holds it, or its holder did not renew when it should have."""
        self._looked = now = time.monotonic()
        records = self.known() or self.holders()
        if records is None:
            return False  # unreadable is not free
        if records != self._records:
            self._records, self._due, self._tried = records, now + self._patience, False
        return not records or now >= self._due or self._dead() in records

    def is_led(self) -> bool:
        """Whether the process that holds it surely lives. False: that is not known."""
        return self._holder is not None and self._holder.tells()[1] == Holder.LIVES

    def _dead(self) -> str:
        """The name of the record of a holder that is surely dead; "": none is known."""
        record, fate = self._holder.tells() if self._holder else ("", Holder.UNKNOWN)
        return record if fate == Holder.DEAD else ""

    def pause(self) -> float:
        """Seconds until the next look: an interval after the last one, or sooner, at the end of a wait."""
        now, following = time.monotonic(), self._looked + self.interval
        return max(0.0, (min(following, self._due) if self._due > self._looked else following) - now)

    def acquire(self, timeout: float = 0.0) -> bool:
        """Whether it is ours within `timeout` seconds; 0: by one attempt."""
        if self.held and not self.lost:
            return True
        self.release()
        os.stat(self._folder)  # the lock makes its directories: not in an empty one where the share was (P11)
        self._lock.stale_threshold = self._threshold
        if dead := self._dead():
            self._as_filelock_is(lambda: self._bury(dead))
        try:
            self._lock.acquire_write(timeout)
        except self._timeout:
            if not self._tried:
                self._due, self._tried = time.monotonic() + self._threshold, True
            return False
        # Nobody takes the lock sooner than this after our last renewal; by then, we give it up ourselves.
        self._lock.stale_threshold = self._patience + self._threshold
        self.held, self.lost, self._records = True, False, None
        self._drop_empty_epoch()
        self._as_filelock_is(self._be_known)
        return True

    def _as_filelock_is(self, call: Callable[[], None]) -> None:
        """Do what rests on the insides of filelock 4.3.1. Where they have changed, this head goes on without: its death
        is waited for, and so are others'."""
        try:
            call()
        except (AttributeError, TypeError) as error:
            log.warning("filelock has changed: a head that died is followed after lock_threshold: %s", error)
            if self._holder is not None:
                self._holder.let_go()
            self._holder = None

    def _bury(self, record: str) -> None:
        """What the release of a holder that is dead would have done. Nothing where somebody else has done it."""
        dead = self._lock._new_participant(
            "write", stale_threshold=self._threshold, clock=time.monotonic, lease_clock=time.monotonic
        )
        dead.token = record
        dead.leave()

    def _be_known(self) -> None:
        """From now on this host knows whether we live; and renewing costs little. Without that, others wait."""
        hold = self._lock._hold
        if self._holder is None or hold is None:
            return
        participant, holder = hold.participant, self._holder
        whole, record, renewals = participant.heartbeat, participant._record, itertools.count()

        def renew() -> tuple[HeartbeatOutcome, OSError | None]:
            if next(renewals) % WHOLE == 0:
                return whole()
            try:
                return ("ok" if holder.renew(record()) else "lost"), None
            except OSError as error:
                return "transient", error

        try:
            holder.keep(participant.token)
        except OSError as error:
            log.warning("%s: should this head die, another waits for lock_threshold: %s", self._lock.lock_file, error)
        else:
            # Replaced in the object that is ours: filelock has no setting for how it renews (4.3.1). mypy allows no
            # function in a method's place.
            participant.heartbeat = renew  # type: ignore[method-assign]

    def _drop_empty_epoch(self) -> None:
        """filelock makes gen/epoch with one call, writes it with the next one, and makes it once (4.3.1). Where it was
        cut in between, or the first call said that it was there already, it stays empty, HEAD counts for nothing, and
        each look tries 64 names: eight times the calls, for ever. Without the file, the next look makes it anew."""
        with suppress(OSError):
            if not os.stat(self._epoch_file).st_size:
                os.unlink(self._epoch_file)

    def release(self) -> None:
        """Give it up, so that another head leads at once. Nothing happens where it is not held.

        A full disk keeps the lock from writing that: then it expires.
        """
        self.held = False
        try:
            self._lock.release(force=True)
        except OSError as error:
            log.warning("the lock of the heads could not be given back, and will expire: %s", error)
        finally:
            if self._holder is not None:
                self._holder.let_go()  # and no sooner: its record would be taken for that of a dead process

    def known(self) -> dict[str, bytes]:
        """What the holders and waiters that the last look found wrote since; nothing, once one is gone."""
        try:
            return {name: self._record(name) for name in self._records or ()}
        except OSError:
            return {}

    def holders(self) -> dict[str, bytes] | None:
        """What each holder or waiter last wrote: it changes with each renewal. Our own are among them. None: it cannot
        be read now."""
        found = {}
        try:
            for name in os.listdir(self._records_folder):
                with suppress(FileNotFoundError):  # it was given up just now
                    found[name] = self._record(name)
        except FileNotFoundError:
            return {}
        except OSError:
            return None
        return found

    def _record(self, name: str) -> bytes:
        return read_once(os.path.join(self._records_folder, name))
