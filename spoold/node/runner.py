"""`spoold node`: make what runs here what assigned.json says, and report it in status.json.

A pass: read assigned.json; prepare and order what shall run; end what is listed with `stop` (nothing else is ever
ended); see where each attempt stands; forget what is over and no longer mentioned; report if anything changed or the
heartbeat is due. Everything is level-triggered: a pass may be cut anywhere and done again, by this runner or the next.

What may be acted on (design, section 4; each rule is needed, see tests/model):

- A version lower than the highest seen is refused. What was seen is remembered (memory.py).
- A runner that did not renew status.json within its limit, or whose predecessor left on purpose, takes the next
  incarnation, and starts only what is addressed to that one. Stops are heeded whatever they are addressed to.
- An attempt is forgotten when a version higher than the one that named it omits it, and a status.json that says so has
  been written.

Trouble with one attempt (its file cannot be read, the local disk is full) is told in `notes` and concerns that attempt
alone; the report always comes. The spool being away (EIO, ESTALE, a full disk) is told once and waited out; jobs go on
meanwhile.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Set

import msgspec

from spool_layout.errors import Damaged, NewerFormat, NotASpool
from spool_layout.localdisk import LocalDisk
from spool_layout.mounts import read_on
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import Assigned, Assignment, NodeStatus, Phase, Remnant, decode, encode
from spool_layout.settings import DeclaredNode, load
from spool_layout.stamps import Glance, stamp_of_name
from spool_layout.storage import Disk, Held
from spoold.account import account, refuse_root
from spoold.local import base_path, boot_id, state_dir, version
from spoold.node import containment, inventory, journal, memory, progress
from spoold.node.attempts import Attempts
from spoold.node.attention import SOON, Attention, apart, apart_by_looks, awaited, is_other
from spoold.node.cleaning import Cleaner, RemoteCleaner
from spoold.node.flushing import Flusher
from spoold.node.identity import bind, machine_id, node_name
from spoold.node.keeper import keep
from spoold.node.order import Orders
from spoold.node.spawning import Starters
from spoold.node.workplace import FOR_OWNERS, Attempt, Workplace, boot_time, place_of
from spoold.restored import PAUSE, WentBack, runner_knows_more
from spoold.wake import REPLACED, Pace, Waker

log = logging.getLogger("spoold.node")

ONCE_FOR = 2.0  # seconds that --once waits for what it started: short jobs end within one run of cron
ONCE_INTERVAL = 60.0  # cron's
WRITING = frozenset({"setup", "running"})  # phases in which an attempt writes logs
ENDING_PAUSE = 0.1  # seconds between two looks at what is being ended: its grace time runs, and nobody says it is gone
UNCONFIRMED = frozenset({"starting", "setup", "ready", "running", "exited"})
ASSIGNED, LOCAL = "assigned.json", "the local disk"
OWN_FILES = frozenset({b"status.json", b"owner.json"})  # changes of these wake nobody here


class Runner:
    """A node's runner."""

    def __init__(
        self,
        root: str,
        flags: DeclaredNode,
        *,
        once: bool = False,
        name: str | None = None,
        state: str | None = None,
        keeper: int | None = None,
    ) -> None:
        self.spool, self.once = Spool(root), once
        mount = read_on(self.spool.root)
        self.local = not mount.network
        self.disk = LocalDisk() if mount.of_one_kernel else Disk()
        self.settings = load(self.spool, self.disk)
        self.node = node_name(name)
        shared = self.settings.users == "multi"
        self.place = Workplace(place_of(state_dir(self.settings.id, state), self.node), shared)
        self.place.make()
        self.lock = self.place.lock_runner()
        self.kept = self.place.keep_from_cleaners()
        bind(self.spool, self.disk, self.node)
        self.inventory = inventory.take(self.node, flags, self.settings.nodes.get(self.node, DeclaredNode()))
        self.interval = ONCE_INTERVAL if once else self.settings.heartbeat
        self.timeout = max(self.settings.node_timeout, 3 * self.interval)
        self.limit = self.timeout - self.settings.fence_margin
        self.waker = Waker(self.local, ignored=OWN_FILES)
        self.pace = Pace(self.settings.poll, self.settings.idle_poll)
        self.attention = Attention()
        self.changed_at: float | None = None  # since when there is something to report (monotonic clock)
        self.report_at: float | None = None  # when that is to be done
        self.news = False  # whether orders came, or what a head acts on was reported, since the last pause
        self.look_at = 0.0  # when the directory is to be looked at (monotonic clock), where the disk tells nothing
        self.looked = False  # whether it was since the last pause
        self.reported = False  # whether this pass has reported
        self.bell = os.open(self.place.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.waker.listen(self.bell)
        self.orders = Orders(self.spool, self.disk, self.settings, self.node, self.place, self.inventory)
        self.starters = Starters(self.place, keeper)
        cleaner = (
            RemoteCleaner(self.settings.grace, self.starters)
            if self.place.shared
            else Cleaner(self.settings.id, self.settings.grace, self.waker.ring)
        )
        self.attempts = Attempts(self.place, self.attention, cleaner)
        self.flusher = Flusher()
        self.logs: dict[str, tuple[str, ...]] = {}  # attempt that runs -> its logs, where these need flushing
        self.stopping = False
        self.since = time.time()
        self.written: NodeStatus | None = None
        self.held = None if self.local else Held()
        folder, file = self.spool.node(self.node), self.spool.assigned(self.node)
        self.glance = Glance(file, stamp_of_name) if self.local else Glance(folder)
        self.written_at = 0.0
        self.assigned = Assigned(FORMAT, self.settings.name, (0, 0), 0)
        self.troubles: dict[str, str] = {}  # attempt, ASSIGNED or LOCAL -> what is wrong with it, told in status.json
        self.checked = self.went_back = False  # whether it was asked if the spool went back in time; whether it did
        self.meanwhile: list[Remnant] = []  # then: what was begun later than what stands there
        self.lapsed = False  # whether a lapse was counted and has not been followed by a renewal
        self._remember()

    def _remember(self) -> None:
        """Take up what is known. Damaged: nothing is started until somebody looked at it."""
        known = memory.recall(self.spool, self.disk, self.node, self.place)
        self.seen, self.beat, self.incarnation, self.lapses = known
        self.read_version: tuple[int, int] = (0, 0)
        self.unread = True  # whether assigned.json may hold what was not read yet
        self.read_incarnation = 0
        self.place.tighten(self.limit, self.incarnation)
        age = self.place.age()
        self.renewed = None if age is None else boot_time() - age  # boot_time of the last renewal, in this boot

    # ---- the loop

    def run(self) -> int:
        """Until SIGTERM or SIGINT; jobs and starter go on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        gpus, cpus = len(self.inventory.gpus), self.inventory.cpus_milli / 1000
        log.info("node %s of %s: %d GPUs, %g CPUs", self.node, self.spool.root, gpus, cpus)
        trouble, pause = "", 0.0
        while not self.stopping:
            try:
                self.step()
                if trouble:
                    log.info("the spool is back")
                trouble, pause = "", self.pause()
            except OSError as error:
                self.check_mounted()
                self.attention.forget()
                if str(error) != trouble:
                    log.error("%s; tries again", error)
                trouble, pause = str(error), min(max(1.0, 2 * pause), 15.0)
            if not self.stopping:
                self.sleep(pause)
        self.leave()
        return 0

    def sleep(self, seconds: float) -> None:
        """Until something happens, or so long; the next pass looks at what that may concern."""
        self.waker.wait(seconds)
        self.attention.woken(time.monotonic(), self.waker.rang, self.waker.heard(self.bell))

    def check_mounted(self) -> None:
        """NotASpool where the share is gone and something else stands in its place (P11)."""
        try:
            settings = load(self.spool, self.disk)
        except OSError:
            return  # the server is away: that is waited out
        if settings.id != self.settings.id:
            raise NotASpool(f"{self.spool.root} is another spool now", "start this node anew")

    def run_once(self) -> int:
        """One round for cron: until nothing moves any more, two seconds at most."""
        self.report(force=True)
        end = time.monotonic() + ONCE_FOR
        self.step()
        while time.monotonic() < end and any(p.phase in UNCONFIRMED for p in self.phases().values()):
            self.waker.wait(0.1)
            self.step()
        self.report(force=True)
        return 0

    def stop(self) -> None:
        """End after the present pass."""
        self.stopping = True
        self.waker.ring()

    def leave(self) -> None:
        """Say that it ends on purpose: its jobs go on, and are waited for."""
        try:
            self.report(force=True, left=True)
        except OSError as error:
            log.warning("could not say that the node leaves: %s", error)

    def pause(self) -> float:
        """Seconds to sleep at most."""
        times = [max(0.0, self.written_at + self.interval - time.monotonic())]
        phases = [phase.phase for phase in self.written.attempts.values()] if self.written else []
        if self.attempts.are_ending():
            times.append(ENDING_PAUSE)
        if "starting" in phases or self.troubles or self.attempts.unclear:
            times.append(0.5)
        if not self.waker.native:
            times.append(self._until_look())
        if self.report_at is not None:
            times.append(max(0.0, self.report_at - time.monotonic()))
        self.news = False
        return min(times)

    def _until_look(self) -> float:
        """Seconds until assigned.json is looked at again, where the disk does not tell of it."""
        now = time.monotonic()
        if self.looked:
            self.look_at, self.looked = now + self.pace.step(self.news), False
        elif self.news:
            self.look_at = min(self.look_at, now + self.pace.step(True))
        return max(0.0, self.look_at - now)

    # ---- one pass

    def step(self) -> None:
        """One pass."""
        self.reported = False
        self.attempts.begin_pass()
        self.waker.watch(self.spool.node(self.node), REPLACED)
        if self.written is None or self.notice_lapse():
            self.report(force=True)
        self.starters.look()
        self.look()
        for key, assignment in self.assigned.attempts.items():
            self.try_to_heed(key, assignment)
        self.report()
        if self.forget():
            self.report()
        if not self.waker.native:
            self.flush_logs()

    def look(self) -> None:
        """Read assigned.json; refuse what is older than what was seen. A damaged one is told, and nothing is done."""
        path = self.spool.assigned(self.node)
        if self.local and (self.attention.told or not self.attention.disk):
            self.unread = self.attention.told or self.unread
            if self.attention.told:
                self.glance.note()
        elif self.local or self._is_to_look():
            self.looked = True
            self.unread = self.glance.changed() or self.unread
        if not self.unread:
            return
        data = self.disk.read(path)
        if data is None:
            if not self.checked:
                self.check_time(None)
            return
        try:
            found = decode(data, Assigned, path)
        except Damaged as error:
            self._trouble(ASSIGNED, str(error))
            self.read_version, self.read_incarnation = (0, 0), 0  # so that the head writes it anew
            return
        if found.format > FORMAT:
            raise NewerFormat(f"{path} has format {found.format}, this program knows {FORMAT}", "upgrade skyspool here")
        told = self.assigned.attempts
        self.news = self.news or any(told.get(key) != wanted for key, wanted in found.attempts.items())
        if found.version >= self.seen:
            if found.version > self.seen:
                self.disk.sync(self.spool.node(self.node))  # acted on and reported only when no power loss undoes it
            self.seen, self.assigned = found.version, found
        elif found.version != self.read_version:
            self.check_time(found.version)
            log.warning("refuses assigned.json %s: has seen %s", found.version, self.seen)
        self.read_version, self.read_incarnation = found.version, found.incarnation
        self.unread = False
        self.troubles.pop(ASSIGNED, None)

    def _is_to_look(self) -> bool:
        """Whether this pass asks the file server, and does not only look at who rang: when that is due, and before each
        heartbeat, since after what we write ourselves we look once more."""
        now = time.monotonic()
        return now >= self.look_at or now - self.written_at >= self.interval

    def check_time(self, found: tuple[int, int] | None) -> None:
        """WentBack where the spool is older than what this node remembers: it says so, and what it began since.

        found: the version that stands there; None: none does."""
        self.checked = True
        if not runner_knows_more(self.spool, self.disk, self.seen, found):
            return
        time.sleep(PAUSE)  # the listing may have been an old one
        if more := runner_knows_more(self.spool, self.disk, self.seen, found):
            self.meanwhile = journal.later_than(self.place, found or (0, 0))
            self.went_back = True
            self.report(force=True)
            raise WentBack(self.spool, more)

    def try_to_heed(self, key: str, assignment: Assignment) -> None:
        """Do what is due for one attempt; what goes wrong concerns it alone, and is tried again at the next pass."""
        try:
            self.heed(key, assignment)
            self.troubles.pop(key, None)
        except OSError as error:
            self._trouble(key, f"job {assignment.id}: {error}")

    def _trouble(self, key: str, text: str) -> None:
        if self.troubles.get(key) != text:
            log.error("%s; tries again", text)
            self.troubles[key] = text

    def heed(self, key: str, assignment: Assignment) -> None:
        """Do what is due for one attempt that is assigned."""
        if key in self.attempts.final:
            return
        attempt = self.attempts[key]
        if assignment.want == "stop":
            self.end(attempt)
        elif self.assigned.incarnation != self.incarnation:
            return  # it may be older than what the head gave up meanwhile
        elif self.attempts.urged.get(key) == self.lapses:
            return
        elif attempt.has("order.json"):
            self.urge(attempt, assignment)
        else:
            self.begin(key, assignment)

    def begin(self, key: str, assignment: Assignment) -> None:
        """Read the accepted text, make the attempt's directory, order it."""
        task = self.orders.text_of(assignment)
        if isinstance(task, str):
            progress.settle(self.place, key, Phase("never", stage="file", reason=task), self.seen)
            return
        order = {"version": self.seen, "lapses": self.lapses, **self.orders.make(key, assignment, task)}
        if may_go(assignment):
            order["go"] = {"lapses": self.lapses}
        journal.note(self.place, assignment, self.seen)
        progress.prepare(self.place, key, order)
        self.attempts.named[key] = self.seen
        if "go" in order:
            self.attempts.let[key] = self.lapses
        self.starters.order(key)

    def urge(self, attempt: Attempt, assignment: Assignment) -> None:
        """Repeat an order that was not carried out yet; say `go`."""
        self.let_go(attempt, assignment)
        if not attempt.is_marked():
            self.starters.order(attempt.key)
        elif may_go(assignment):
            self.attempts.urged[attempt.key] = self.lapses

    def let_go(self, attempt: Attempt, assignment: Assignment) -> None:
        """Say that run may begin once setup is over here, if that was not said with the order. Said anew after a lapse,
        since the head confirmed the attempt to this incarnation."""
        if not may_go(assignment) or self.attempts.let.get(attempt.key) == self.lapses:
            return
        said = attempt.read("go") or (attempt.read("order.json") or {}).get("go") or {}
        if said.get("lapses") == self.lapses:
            return
        attempt.write("go", {"lapses": self.lapses}, FOR_OWNERS)
        if (watcher := progress.supervisor(attempt)) is not None:
            if self.place.shared:
                self.starters.order(f"{attempt.key} poke")
            else:
                containment.signal_process(watcher, signal.SIGUSR1)

    def end(self, attempt: Attempt) -> None:
        """Heed a `stop`: never started, it never will be; started, everything of it is ended."""
        never = Phase("never", reason="stopped before it began")
        if not attempt.is_marked():
            if not attempt.names():
                progress.prepare(self.place, attempt.key, {"version": self.seen}, begins=False)
            attempt.mark("runner")
        if (attempt.marker or {}).get("by") == "runner":
            progress.settle(self.place, attempt.key, never, self.seen)
        else:
            self.attempts.clean(attempt, progress.stand(attempt))

    # ---- where attempts stand

    def phases(self) -> dict[str, Phase]:
        """Phase of every attempt that is remembered."""
        return self.attempts.phases(self.assigned.attempts, self.written.attempts if self.written else {})

    def flush_logs(self) -> None:
        """Let the logs of what runs be sent to the file server."""
        running = {key for key, phase in self.attempts.standing.items() if phase.phase in WRITING}
        self.logs = {key: self.logs.get(key) or self._logs_of(key) for key in running}
        self.flusher.follow(frozenset(path for logs in self.logs.values() for path in logs))

    def _logs_of(self, key: str) -> tuple[str, ...]:
        order = self.attempts[key].read("order.json") or {}
        return tuple(order[name] for name in ("setup_log", "run_log") if name in order)

    def forget(self) -> bool:
        """Forget what is over, no longer mentioned by a higher version, and reported so. Whether anything was."""
        if self.written is None or self.written.seen < self.seen or self.read_version != self.seen:
            return False
        over = [key for key in self.attempts.final if key not in self.assigned.attempts]
        gone = [key for key in over if self.attempts.named_by(key) < self.seen]
        for key in gone:
            self.attempts.forget(key)
        for key in self.troubles.keys() - {ASSIGNED, LOCAL, *self.assigned.attempts}:
            del self.troubles[key]
        return bool(gone)

    # ---- reporting

    def report(self, force: bool = False, left: bool = False) -> None:
        """Write status.json if it says something new, or the heartbeat is due."""
        began = boot_time()
        force = self.notice_lapse() or force
        status = self.status(left)
        new, now = status != self.written, time.monotonic()
        self.changed_at = (self.changed_at or now) if new else None
        self.report_at = None if self.changed_at is None else self._when_to_report(status, self.changed_at)
        due = force or now - self.written_at >= self.interval
        if not due and (self.report_at is None or now < self.report_at):
            return
        self.news = self.news or (not self.waker.native and awaited(status, self.written))
        self.changed_at = self.report_at = None
        self.beat += 1
        told = encode(msgspec.structs.replace(status, beat=self.beat))
        self.disk.publish(self.spool.status(self.node), told, held=self.held)
        if self.written is None:
            self.disk.sync(self.spool.node(self.node))  # by it, a runner after a reboot knows that it was one
        if not self.local:
            self.glance.note()
        self.written, self.written_at = msgspec.structs.replace(status, beat=self.beat), time.monotonic()
        self.reported = True
        self.notice_lapse()  # the head may have seen the beat before too long ago; the next report says so
        try:
            limit = None if left else self.limit
            self.place.renew(limit, began, self.lapses, self.incarnation, self.seen, starts=self.limit)
        except OSError as error:
            self._trouble(LOCAL, f"{LOCAL}: {error}; nothing can be started")
        else:
            self.renewed, self.lapsed = began, False
            self.troubles.pop(LOCAL, None)

    def _when_to_report(self, status: NodeStatus, changed_at: float) -> float:
        """When what is new is to be reported (monotonic clock): now, where somebody waits for it, or it has waited."""
        if not self.waker.native:
            return self._when_looked_for(status, changed_at)
        if self.attention.by_clock and not self.reported:
            return 0.0
        if awaited(status, self.written):
            return self.written_at + apart(len(status.attempts))
        return changed_at + SOON

    def _when_looked_for(self, status: NodeStatus, changed_at: float) -> float:
        """The same where no head is told of a report: each costs a file server eight calls, and as many to take it in.
        The first end is told at once, and so are the last ones."""
        if self.once or is_other(status, self.written):
            return 0.0
        gap = apart_by_looks(status, self.settings.idle_poll)
        if awaited(status, self.written):
            return self.written_at + gap
        return changed_at + max(gap, self.settings.poll)

    def notice_lapse(self) -> bool:
        """Whether the limit was exceeded since the last renewal: then this is a new incarnation, once."""
        age = None if self.renewed is None else boot_time() - self.renewed
        if self.lapsed or (age is not None and age <= self.limit):
            return False
        if self.written is not None:
            log.warning("had lost contact for %.0f s: goes on as a new incarnation", age or 0.0)
        self.incarnation, self.lapses, self.lapsed = self.incarnation + 1, self.lapses + 1, True
        return True

    @functools.cached_property
    def about(self) -> NodeStatus:
        """What status.json says for as long as this runner lives."""
        return NodeStatus(
            format=FORMAT,
            node=self.node,
            host=socket.gethostname(),
            incarnation=0,
            beat=0,
            interval=self.interval,
            timeout=self.timeout,
            driven="once" if self.once else "daemon",
            machine=machine_id(),
            boot=boot_id(),
            pid=os.getpid(),
            version=version(),
            memory=self.place.memory,
            since=self.since,
            address=self.inventory.address,
            gpus=self.inventory.gpus,
            cpus_milli=self.inventory.cpus_milli,
            memory_mb=self.inventory.memory_mb,
            enforced=inventory.enforced(self.settings.memory == "enforced"),
        )

    def status(self, left: bool) -> NodeStatus:
        """What status.json says, with the last beat."""
        attempts = self.phases()
        return msgspec.structs.replace(
            self.about,
            incarnation=self.incarnation,
            beat=self.beat,
            notes=[
                *self.inventory.notes,
                *filter(None, [self.starters.trouble]),
                *self.troubles.values(),
                *self.attempts.unclear.values(),
            ],
            seen=self.seen,
            read=self.read_version,
            read_incarnation=self.read_incarnation,
            attempts=attempts,
            left=left,
            went_back=self.went_back,
            meanwhile=self.meanwhile or self.unnamed(attempts.keys()),
        )

    def unnamed(self, remembered: Set[str]) -> list[Remnant]:
        """What runs here and the head does not name: it was begun in a time that a restored spool has forgotten."""
        if self.read_version != self.seen:
            return []
        keys = {*(remembered - self.assigned.attempts.keys() - self.attempts.final.keys())}
        return journal.of(self.place, keys) if keys else []


def may_go(assignment: Assignment) -> bool:
    """Whether run may begin as soon as setup is over here: it is over everywhere, or this rank is alone."""
    return assignment.go or len(assignment.nodes) == 1


def run_node(
    root: str,
    *,
    once: bool = False,
    name: str | None = None,
    gpus: str | None = None,
    cpus: float | None = None,
    memory_gb: float | None = None,
    address: str | None = None,
    state: str | None = None,
) -> int:
    """`spoold node ROOT`. The exit code."""
    spool = Spool(root)
    settings = load(spool, Disk())
    flags = DeclaredNode(gpus, cpus, memory_gb, address)
    if settings.users != "multi":
        refuse_root(spool)
        return run_runner(root, flags, once=once, name=name, state=state)
    place = place_of(os.path.join(base_path(state, account(spool).uid), settings.id), node_name(name))
    return keep(
        spool, place, state, lambda keeper: run_runner(root, flags, once=once, name=name, state=state, keeper=keeper)
    )


def run_runner(
    root: str, flags: DeclaredNode, *, once: bool, name: str | None, state: str | None, keeper: int | None = None
) -> int:
    """The runner itself. The exit code."""
    runner = Runner(root, flags, once=once, name=name, state=state, keeper=keeper)
    try:
        return runner.run_once() if once else runner.run()
    except Damaged as error:
        raise Damaged(f"starts nothing: {error.message}", error.hint) from error
    finally:
        runner.waker.close()
