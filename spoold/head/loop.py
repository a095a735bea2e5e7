"""`spoold head`: stand by for the lock, lead while it holds, tick when something may have changed.

The lock says who should lead; the epoch keeps the data whole when the lock was wrong (spool_layout.leadership). A term
ends when a newer epoch is listed, when the lock is lost, or when a write fails; everything it knew is thrown away, and
the next term reads the disk. `--once` leads for as long as there is something to do at once, then ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time

from spool_layout import leadership
from spool_layout.errors import Damaged, Deposed, NotASpool, SpoolError
from spool_layout.leadership import HeadLock
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import HeadStatus, Leader, encode
from spool_layout.settings import Settings, is_network, load
from spool_layout.storage import Disk
from spoold.core.hearing import Heard, Hearing
from spoold.head.term import Term
from spoold.local import boot_id, state_dir
from spoold.wake import Waker

log = logging.getLogger("spoold.head")

CRON = 60.0  # seconds between two runs of `--once`, at most
ONCE_TICKS = 50  # of one `--once`: each does all that can be done at once, so few are ever needed
IDLE_BEFORE_LEDGER = 1.0  # seconds without an event after which the ledger is written anew


class Head:
    """A head process."""

    def __init__(self, root: str, disk: Disk | None = None, state: str | None = None, *, once: bool = False) -> None:
        self.spool, self.disk = Spool(root), disk or Disk()
        self.settings: Settings = load(self.spool, self.disk)
        self.local = not is_network(self.spool.root)
        self.hearing = Hearing(self.settings.node_timeout, self.settings.fence_margin)
        self.lock = HeadLock(self.spool, self.settings)
        self.waker = Waker(self.local)
        self.host = socket.gethostname()
        self.name = f"{self.host}-{'cron' if once else os.getpid()}"
        self.interval = CRON if once else self.settings.lock_heartbeat
        self.since = time.time()
        self.stopping = False
        self.beaten = 0.0
        self.role = ""
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent when a writer breaks the lease by which open files are told
        self.kept = os.path.join(state_dir(self.settings.id, state), "head.json")

    # ---- that it lives

    def say(self, role: str, epoch: int = 0) -> None:
        """Write heads/HOST-PID.json anew when the role changed, else renew its change time when that is due."""
        now = time.monotonic()
        path = self.spool.head(self.name)
        if role != self.role:
            status = HeadStatus(
                format=FORMAT,
                host=self.host,
                pid=os.getpid(),
                role=role,
                epoch=epoch,
                since=time.time(),
                interval=self.interval,
                version=version(),
            )
            self.disk.publish(path, encode(status), durable=False)
            self.role, self.beaten = role, now
        elif now - self.beaten >= self.settings.lock_heartbeat:
            self.disk.touch(path)
            self.beaten = now

    def server_now(self) -> float:
        """The file server's clock: the change time of a file that this host just wrote there."""
        if not self.role:
            self.say("once" if self.interval == CRON else "standby")
        return self.disk.touch(self.spool.head(self.name))

    def leave(self) -> None:
        """Take the own sign of life away."""
        try:
            self.disk.remove(self.spool.head(self.name))
        except OSError as error:
            log.warning("%s: %s", self.spool.head(self.name), error)

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
                self.say("standby")
                if self.lock.acquire(max(self.settings.lock_heartbeat / 2, 0.1)):
                    self.lead()
                pause = 0.0
            except Deposed as error:
                log.warning("stands by: %s", error)
                self.lock.release()
                pause = self.settings.lock_heartbeat
            except OSError as error:
                pause = longer(pause)
                log.error("%s; tries again in %.0f s", error, pause)
            except SpoolError:
                raise
            except Exception:  # a fault of ours: a new term reads the disk anew, which may well get past it
                pause = longer(pause)
                log.exception("a fault in this program; a new term begins in %.0f s", pause)
            if pause and not self.stopping:
                self.waker.wait(pause)
        self.lock.release()
        self.leave()
        return 0

    def stop(self) -> None:
        """End after the present tick."""
        self.stopping = True
        self.waker.ring()

    def check_mounted(self) -> None:
        """NotASpool where the spool's own id is no longer there (P11): an empty directory is not an empty queue."""
        if load(self.spool, self.disk).id != self.settings.id:
            raise NotASpool(f"{self.spool.root} is another spool now", "start this head anew")

    def lead(self) -> None:
        """One term, while the lock holds."""
        term = self.begin()
        if term is None:
            return
        self.say("leading", term.epoch.number)
        log.info("leads, epoch %d", term.epoch.number)
        quiet_since = time.monotonic()
        while not self.stopping:
            if self.lock.lost:
                raise Deposed("the lock was lost to another head")
            self.say("leading", term.epoch.number)
            busy = term.tick()
            now = time.monotonic()
            if busy:
                quiet_since = now
            idle = now - quiet_since >= IDLE_BEFORE_LEDGER
            if term.keeper.is_due(idle):
                term.keeper.write()
            if idle and term.pruner.step(time.time()):
                term.observer.look_again(0.0)
            self.waker.wait(self.pause(term, idle, now))
        if term.keeper.is_due(True):
            term.keeper.write()

    def begin(self) -> Term | None:
        """Claim the next epoch and take over; None: another head was faster."""
        epoch = leadership.take(self.spool, self.disk)
        if epoch is None:
            log.info("another head was faster")
            self.lock.release()
            return None
        leader = Leader(host=self.host, pid=os.getpid(), since=time.time(), version=version())
        term = Term(self.spool, self.disk, self.settings, self.hearing, self.local, self.server_now, epoch, leader)
        for folder in (self.spool.pending, self.spool.requests):
            self.waker.watch(folder)
        return term

    def pause(self, term: Term, idle: bool, now: float) -> float:
        """Seconds to sleep at most before the next look."""
        for node in term.state.nodes:
            self.waker.watch(self.spool.node(node))
        self.waker.watch(self.spool.nodes)
        times = [self.settings.lock_heartbeat, self.hearing.next_change(now)]
        if not self.waker.native:
            times.append(self.settings.idle_poll if idle and not term.state.jobs else self.settings.poll)
        if term.again is not None:
            times.append(term.again)
        if term.keeper.events and not idle:
            times.append(IDLE_BEFORE_LEDGER)
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
        finally:
            self.lock.release()

    def _wait_for_lock(self) -> bool:
        """Whether it is ours; False once the holder was seen to renew."""
        before = self.lock.holders()
        while not self.lock.acquire(self.settings.lock_heartbeat / 4):
            now = self.lock.holders()
            if any(now.get(name, said) != said for name, said in before.items()):
                return False
            before = {**now, **before}
        return True

    def _once(self) -> int:
        self.say("once")
        term = self.begin()
        if term is None:
            return 0
        for _ in range(ONCE_TICKS):
            busy = term.tick()
            if not busy and (term.again is None or term.again > self.settings.settle):
                break
            if not busy and term.again:
                time.sleep(term.again)
        if term.keeper.is_due(True):
            term.keeper.write()
        term.pruner.step(time.time())
        self.remember()
        return 0

    def remember(self) -> None:
        """Keep what was heard for the next run on this host, in this boot."""
        shift = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        kept = {
            "boot": boot_id(),
            "heard": {n: h._replace(since=h.since + shift) for n, h in self.hearing.remember().items()},
        }
        os.makedirs(os.path.dirname(self.kept), 0o700, exist_ok=True)
        with open(f"{self.kept}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump(kept, file)
        os.replace(f"{self.kept}.{os.getpid()}", self.kept)

    def recall(self) -> None:
        """Take up what the last run kept, if it was in this boot."""
        try:
            with open(self.kept, encoding="utf-8") as file:
                kept = json.load(file)
        except (OSError, ValueError):
            return
        shift = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        if kept.get("boot") == boot_id():
            self.hearing.recall({n: Heard(b, i, s - shift, m, t) for n, (b, i, s, m, t) in kept["heard"].items()})


def longer(pause: float) -> float:
    """The next pause after a failure, seconds."""
    return min(max(1.0, 2 * pause), 30.0)


def version() -> str:
    """The installed version of this program."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("skyspool")
    except PackageNotFoundError:
        return "0"


def run_head(root: str, *, once: bool = False, state: str | None = None) -> int:
    """`spoold head ROOT`. The exit code."""
    head = Head(root, state=state, once=once)
    try:
        return head.once() if once else head.run()
    except Damaged as error:
        raise SpoolError(f"stops, since going on could lose something: {error.message}", error.hint) from error
    finally:
        head.waker.close()
