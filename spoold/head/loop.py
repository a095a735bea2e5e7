"""`spoold head`: stand by for the lock, lead while it holds, tick when something may have changed.

The lock says who should lead; the epoch keeps the data whole when the lock was wrong (spool_layout.leadership). A term
ends when a newer epoch is listed, when the lock is lost, when a write fails, or when its file of events has become
long; everything it knew is thrown away, and the next term reads the disk. `--once` leads for as long as there is
something to do at once, then ends.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import time

from spool_layout import leadership
from spool_layout.errors import BadSettings, Damaged, Deposed, NotASpool, SpoolError
from spool_layout.leadership import HeadLock
from spool_layout.localdisk import LocalDisk
from spool_layout.mounts import read_on
from spool_layout.paths import Spool
from spool_layout.records import Leader
from spool_layout.settings import Settings, load
from spool_layout.stamps import SharedDisk
from spool_layout.storage import Disk
from spool_layout.users import of_settings
from spoold import restored
from spoold.account import settle
from spoold.core.hearing import Heard, Hearing
from spoold.head.admission import admit
from spoold.head.presence import CRON, Presence
from spoold.head.project import LATER, LATER_ON_NFS
from spoold.head.term import Term
from spoold.local import boot_id, state_dir, version
from spoold.wake import REPLACED, Pace, Waker

log = logging.getLogger("spoold.head")

ONCE_TICKS = 200  # of one `--once`; the next run goes on
ONCE_PRUNES = 100  # steps of pruning in one `--once`; the next run goes on
ONCE_MARGIN = 1.0  # seconds beyond the settle time that a `--once` may wait for files to become complete
# Seconds between two looks for files while ticks follow each other, where the disk tells of changes: with news of them,
# and with none. (Not told is what its owner moves out of pending/, or makes readable.)
FILES_EVERY, FILES_SELDOM = 0.05, 1.0
DEPOSED = 1.0  # seconds before a head that was deposed looks at the lock again, on a local disk
LONG, VERY_LONG = 16 << 20, 32 << 20  # bytes of events after which an epoch ends: when idle (20,000 jobs), and else
# New objects after which those are looked through for cycles, and how seldom older ones are. A look at everything among
# a hundred thousand jobs takes 0.3 s, and what a head makes of them has no cycles.
COLLECTED = (50_000, 20, 100)
# Seconds without an event after which the ledger is written anew: on NFS, where a head looks four times a second, work
# that comes in drips would have it written between two of them, for twenty calls.
IDLE_BEFORE_LEDGER, ON_NFS = 1.0, 5.0


class Stopped(BaseException):
    """SIGTERM or SIGINT came while the lock was waited for."""


class Head:
    """A head process."""

    def __init__(self, root: str, disk: Disk | None = None, state: str | None = None, *, once: bool = False) -> None:
        self.spool = Spool(root)
        mount = read_on(self.spool.root)
        self.local = not mount.network
        self.disk = disk or (LocalDisk() if mount.of_one_kernel else Disk() if self.local else SharedDisk())
        self.settings: Settings = load(self.spool, self.disk)
        of_settings(self.settings, os.getuid())  # BadSettings at once for a user whom nobody knows
        self.hearing = Hearing(self.settings.node_timeout, self.settings.fence_margin)
        self.lock = HeadLock(self.spool, self.settings)
        self.waker = Waker(self.local, ignored=frozenset({b"assigned.json"}))
        self.lock.when_lost = lambda: self.waker.ring()
        self.pace = Pace(self.settings.poll, self.settings.idle_poll)
        self.presence = Presence(self.spool, self.disk, self.settings.lock_heartbeat, version(), once=once)
        self.rest = IDLE_BEFORE_LEDGER if self.local else ON_NFS
        self.stopping = self.waiting = False
        self.kept = os.path.join(state_dir(self.settings.id, state), "head.json")
        gc.set_threshold(*COLLECTED)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent when a writer breaks the lease by which open files are told

    # ---- the daemon

    def run(self) -> int:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        log.info("stands by for %s", self.spool.root)
        pause = 0.0
        while not self.stopping:
            try:
                self.check_mounted()
                self.presence.say("standby")
                if self.await_lock(self.presence.due()):
                    self.lead()
                pause = 0.0
            except Stopped:
                break
            except Deposed as error:
                log.warning("stands by: %s", error)
                self.lock.release()
                pause = min(self.settings.lock_heartbeat, DEPOSED) if self.local else self.settings.lock_heartbeat
            except (OSError, BadSettings) as error:  # spool.yaml may just be being edited
                self.lock.release()  # another head may have better luck
                pause = longer(pause)
                log.error("%s; tries again in %.0f s", error, pause)
            except SpoolError:
                raise
            except Exception:  # a fault of ours: a new term reads the disk anew, which may well get past it
                self.lock.release()
                pause = longer(pause)
                log.exception("a fault in this program; a new term begins in %.0f s", pause)
            if pause and not self.stopping:
                self.waker.wait(pause)
        self.lock.release()
        self.presence.leave()
        return 0

    def await_lock(self, seconds: float) -> bool:
        """Whether the lock is ours within so long. It is only looked at until it may be had."""
        end = time.monotonic() + seconds
        while not self.stopping:
            if not self.lock.pause() and self.lock.is_free() and self.try_lock():
                return True
            left = end - time.monotonic()
            if left <= 0:
                break
            self.waker.wait(min(left, self.lock.pause()))
        return False

    def try_lock(self) -> bool:
        """One attempt. A signal ends it."""
        self.waiting = True
        try:
            return self.lock.acquire()
        finally:
            self.waiting = False

    def stop(self) -> None:
        """End after the present tick, or give up waiting for the lock."""
        self.stopping = True
        self.waker.ring()
        if self.waiting:
            raise Stopped

    def check_mounted(self) -> None:
        """NotASpool where the spool's own id is no longer there (P11): an empty directory is not an empty queue."""
        if load(self.spool, self.disk).id != self.settings.id:
            raise NotASpool(f"{self.spool.root} is another spool now", "start this head anew")

    def lead(self) -> None:
        """While the lock holds: one term, and another one where its file of events has become long."""
        while self.lead_one_term() and not self.stopping:
            log.info("begins a new epoch: the events of the last one have become many")

    def lead_one_term(self) -> bool:
        """One term. True: it is over because its file of events is long: whoever takes over reads all of it, and so do
        `fsck` and a client without a ledger; the next term's first ledger packs it away."""
        term = self.begin(LATER if self.local else LATER_ON_NFS)
        if term is None:
            return False
        self.presence.say("leading", term.epoch.number)
        log.info("leads, epoch %d", term.epoch.number)
        quiet_since, next_look, next_check, looked = time.monotonic(), 0.0, 0.0, 0.0
        woken = True
        while not self.stopping:
            if self.lock.lost:
                raise Deposed("the lock was lost to another head")
            self.presence.say("leading", term.epoch.number)
            now = time.monotonic()
            if now >= next_check:
                self.check_mounted()  # a newer format, another spool: nothing more may be written
                next_check = now + self.settings.sweep
            if woken or now >= next_look:
                wanted = self.files_are_due(term, now - looked)
                nodes_only = self.waker.native and (not wanted or now - looked < FILES_EVERY)
                if not nodes_only:
                    looked = now
                    self.waker.news.clear()  # what comes from here on is listed, or is news
                happened = term.tick(nodes_only)
                quiet_since = now if happened else quiet_since
                if happened:
                    restored.note_led(os.path.dirname(self.kept), term.epoch)
                idle = now - quiet_since >= self.rest
                self.keep(term, idle)
                if not term.keeper.events and term.epoch.offset >= (LONG if idle else VERY_LONG):
                    return True
                next_look = time.monotonic() + self.pause(term, happened)
                if term.keeper.events and not idle:
                    next_look = min(next_look, quiet_since + self.rest)  # the ledger is due then
                if nodes_only and wanted:
                    next_look = min(next_look, looked + FILES_EVERY)
            self.hearing.expect(max(next_look, time.monotonic()))
            woken = self.waker.wait(max(0.0, min(next_look - time.monotonic(), self.presence.due())))
        with contextlib.suppress(OSError):  # else the next head does
            term.projector.tell_over()
        if term.keeper.is_due(True):
            self.write_ledger(term)
        return False

    def files_are_due(self, term: Term, since: float) -> bool:
        """Whether to look for files: there is news, one may be complete by now, or none was looked for lately. Whatever
        comes into empty boxes is news."""
        news = not self.waker.news.isdisjoint((self.spool.pending, self.spool.requests, self.spool.nodes))
        seldom = FILES_SELDOM if term.observer.boxes_hold else self.settings.sweep
        return news or term.observer.files_due <= time.monotonic() or since >= seldom

    def keep(self, term: Term, idle: bool) -> None:
        """What is done beside the ticks: the ledger, and removing what is too old."""
        if term.keeper.is_due(idle):
            self.write_ledger(term)
        if idle and term.pruner.step(self.presence.clock()):
            term.observer.look_again(0.0)

    def write_ledger(self, term: Term) -> None:
        """A new generation; this host remembers how far the epoch had come."""
        term.keeper.write(term.observer.leaving.values())
        restored.note_led(os.path.dirname(self.kept), term.epoch)

    def begin(self, later: float = 0.0) -> Term | None:
        """Claim the next epoch and take over; None: another head was faster. later: see Projector."""
        known = restored.refuse(self.spool, self.disk, os.path.dirname(self.kept))
        epoch = leadership.take(self.spool, self.disk)
        if epoch is None:
            log.info("another head was faster")
            self.lock.release()
            return None
        clock = self.presence.clock
        leader = Leader(host=self.presence.host, pid=os.getpid(), since=clock(), version=self.presence.version)
        term = Term(
            self.spool, self.disk, self.settings, self.hearing, self.local, clock, epoch, leader, None, known, later
        )
        restored.note_led(os.path.dirname(self.kept), epoch)
        for folder in (self.spool.pending, self.spool.requests, self.spool.nodes):
            self.waker.watch(folder)
        return term

    def pause(self, term: Term, happened: bool) -> float:
        """Seconds to sleep at most before the next look."""
        for node in term.observer.nodes.listed:
            self.waker.watch(self.spool.node(node), REPLACED)
        times = [self.settings.sweep, self.hearing.next_change(time.monotonic())]
        if not self.waker.native:
            times.append(self.pace.step(happened))
        if term.again is not None:
            times.append(term.again)
        return max(0.0, min(times))

    # ---- once

    def once(self) -> int:
        """All that can be done at once, then end; waits for a holder of the lock to renew or to expire."""
        self.check_mounted()
        self.recall()
        if not self._wait_for_lock():
            log.warning("another head leads: nothing to do")
            return 0
        try:
            return self._once()
        except Deposed as error:
            log.warning("another head leads: %s", error)
            return 0
        finally:
            self.lock.release()

    def _wait_for_lock(self) -> bool:
        """Whether it is ours; False once the holder was seen to renew."""
        before = self.lock.holders() or {}
        while not (self.lock.is_free() and self.lock.acquire()):
            time.sleep(self.lock.pause())
            now = self.lock.holders() or {}
            if any(now.get(name, said) != said for name, said in before.items()):
                return False
            before = {**now, **before}
        return True

    def _once(self) -> int:
        self.presence.say("once")
        term = self.begin()
        if term is None:
            return 0
        end = time.monotonic() + self.settings.settle + ONCE_MARGIN
        for _ in range(ONCE_TICKS):
            if not term.tick() and not self._waits_a_little(term, end):
                break
        self.keep(term, idle=True)
        for _ in range(ONCE_PRUNES):
            if not term.pruner.step(self.presence.clock(), patient=True):
                break
        self.remember()
        return 0

    def _waits_a_little(self, term: Term, end: float) -> bool:
        """Wait for files that are complete soon. False: none is in time; the next run finds them."""
        if term.again is None or time.monotonic() + term.again > end:
            return False
        time.sleep(max(term.again, 0.01))
        return True

    def remember(self) -> None:
        """Keep what was heard for the next run on this host, in this boot."""
        shift = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        kept = {
            "boot": boot_id(),
            "looked": time.monotonic() + shift,
            "heard": {n: h._replace(since=h.since + shift) for n, h in self.hearing.remember().items()},
        }
        os.makedirs(os.path.dirname(self.kept), 0o700, exist_ok=True)
        with open(f"{self.kept}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write(json.dumps(kept))
        os.replace(f"{self.kept}.{os.getpid()}", self.kept)

    def recall(self) -> None:
        """Take up what the last run kept, if it was in this boot."""
        shift = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        try:
            with open(self.kept, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["boot"] != boot_id():
                return
            self.hearing.recall({n: Heard(b, i, s - shift, m, t) for n, (b, i, s, m, t) in kept["heard"].items()})
            self.hearing.expect(kept["looked"] - shift + CRON)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return  # none, or of another version: what was heard is heard anew


def longer(pause: float) -> float:
    """The next pause after a failure, seconds."""
    return min(max(1.0, 2 * pause), 30.0)


def run_head(root: str, *, once: bool = False, state: str | None = None, force: bool = False) -> int:
    """`spoold head ROOT`. The exit code. force: lead also on a mount that is unsafe."""
    spool = Spool(root)
    settle(spool, load(spool, Disk()), state)
    head = Head(root, state=state, once=once)
    try:
        admit(head.spool, head.disk, force=force)
        return head.once() if once else head.run()
    except Damaged as error:
        raise Damaged(f"stops, since going on could lose something: {error.message}", error.hint) from error
    finally:
        head.waker.close()
