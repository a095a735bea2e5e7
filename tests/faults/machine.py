"""One machine with a spool, a head and nodes on it, in this process: it loses power, starts again, and is judged.

The head's term, the runner and the client are the real ones; only the starter is a hand of ours, which makes an
attempt's marker as supervisors do and starts nothing. A story acts on a Machine while a Tape records it (power.py).
Then each state that a power loss may leave is built in the same place, a new head and a new runner go on from it until
nothing moves any more, and `judge` asks what was promised up to the moment of the loss.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from skyspool import submission
from spool_layout import history, leadership, settings
from spool_layout.events import (
    Accepted,
    AnyEvent,
    Edited,
    Ended,
    Lost,
    Rejected,
    Returned,
    Sealed,
    Started,
    Surfaced,
    decode_events,
)
from spool_layout.modes import PRIVATE
from spool_layout.paths import Spool, label
from spool_layout.records import Leader, NodeStatus, encode
from spool_layout.settings import DeclaredNode
from spool_layout.states import Status
from spool_layout.storage import Disk, Entry, Seen
from spoold import local, restored
from spoold.core.hearing import Hearing
from spoold.core.invariants import broken
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge as fsck
from spoold.head.term import Term
from spoold.node import cleaning, containment, identity, memory, runner
from spoold.node.runner import Runner
from spoold.node.workplace import Attempt, Workplace
from tests.faults.chance import chance
from tests.faults.pictures import memory_of, memory_of_node, picture
from tests.faults.power import SERVER, SPOOL, STATE, Found, Tape, build

NAME = "n1"
CPU, GPU = "run: echo MARK\n...\n", "resources: {accelerators: H100:1}\nrun: echo MARK\n...\n"
AGAIN = "resources: {accelerators: H100:1, job_recovery: failover}\nrun: echo MARK\n...\n"
GANG = "num_nodes: 2\nresources: {accelerators: H100:1}\nsetup: echo\nrun: echo MARK\n...\n"
SETTINGS = "shell: plain\nheartbeat: 100s\nnode_timeout: 1000s\ngrace: 1s\nsettle: 0\n"
SETTINGS += "keep: {done: 30d, rejected: 10d, logs: 10d}\n"
DAY = 86400.0  # seconds
ROUNDS = 40  # of head and runner after which they are taken for never coming to rest
LOST = ("its host was rebooted", "the node's local state was lost", "lost")
MARK = re.compile(r"mark-\w+")
SUBMITTED = re.compile(rb'"submitted":[\d.]+')


class Noting(Disk):
    """The head's disk: what it appended has happened."""

    def __init__(self, note: Callable[[str, Any], None]) -> None:
        self.note = note

    def append(self, path: str, data: bytes, offset: int) -> None:
        super().append(path, data, offset)
        self.note("committed", (os.path.basename(path), data))


class SameInodes(Disk):
    """A disk on which files that were built anew have the inodes that they had."""

    def __init__(self, inodes: dict[int, int]) -> None:
        self.inodes = inodes

    def list(self, path: str) -> list[Entry]:
        return [entry._replace(inode=self.inodes.get(entry.inode, entry.inode)) for entry in super().list(path)]

    def _inspect(self, path: str, limit: int, known: Seen | None) -> Seen:
        seen = super()._inspect(path, limit, known)
        return seen._replace(inode=self.inodes.get(seen.inode, seen.inode))

    def stat(self, path: str) -> Any:
        info = super().stat(path)
        if info is None or info.st_ino not in self.inodes:
            return info
        told = {name: getattr(info, name) for name in dir(info) if name.startswith("st_")}
        return SimpleNamespace(**{**told, "st_ino": self.inodes[info.st_ino]})


class Clock:
    """In place of time.time (`tell`): it stands, unless a story moves it."""

    now = 0.0

    def tell(self) -> float:
        return self.now


clock = Clock()


class Told(Hearing):
    """Nodes are heard as the story says, or else as they are."""

    def __init__(self, said: dict[str, str], timeout: float, margin: float) -> None:
        super().__init__(timeout, margin)
        self.said = said

    def judge(self, status: NodeStatus, age: float, now: float, recorded: str) -> str:
        verdict = super().judge(status, age, now, recorded)
        return self.said.get(status.node, verdict)


class Hand:
    """In place of the starter: begins an attempt as supervisors do, by its marker; its process is only told of.

    deaf: it begins nothing that it is told to.
    """

    trouble = ""

    def __init__(self, machine: Machine, place: Workplace) -> None:
        self.machine, self.place, self.deaf = machine, place, False

    def look(self) -> None:
        """Those that were set up and may go on do."""
        for attempt in map(self.place.attempt, self.place.remembered()):
            names = attempt.names()
            is_set_up = "setup.exit" in names and not names & {"run.pid", "run.exit", "outcome"}
            if is_set_up and self._lives(attempt) and ("go" in names or "go" in (attempt.read("order.json") or {})):
                self._run(attempt)

    def order(self, key: str) -> None:
        attempt = self.place.attempt(key)
        names = attempt.names()
        if self.deaf or "order.json" not in names or names & {"marker", "outcome"} or not attempt.mark("supervisor"):
            return
        scripts = attempt.read("order.json")["scripts"]
        mark = MARK.findall(scripts["run"])[0]
        self.machine.note("started", (key, mark, os.path.basename(self.place.path)))
        if "setup" in scripts:
            attempt.write("setup.exit", {"code": 0, "at": time.time(), "fenced": False, "gone": False})
        else:
            self._run(attempt)

    def _run(self, attempt: Attempt) -> None:
        attempt.write("run.pid", {"pid": os.getpid(), "start": 0, "at": time.time()})

    def _lives(self, attempt: Attempt) -> bool:
        return bool((attempt.read("marker") or {}).get("boot") == local_boot())

    def end(self, code: int = 0) -> None:
        """The processes that run end; those of an earlier boot have."""
        for attempt in map(self.place.attempt, self.place.remembered()):
            if self._lives(attempt) and not attempt.names() & {"run.exit", "outcome"}:
                attempt.write("run.exit", {"code": code, "at": time.time(), "fenced": False, "gone": True})


class Deaf:
    """In place of the runner's waker: it is driven pass by pass, and no thread runs beside."""

    native = True

    def __init__(self, local: bool, ignored: frozenset[bytes]) -> None:
        pass

    def watch(self, folder: str, *_: object) -> None:
        pass

    def listen(self, descriptor: int) -> None:
        pass

    def ring(self) -> None:
        pass


_boot = "the first boot"


def local_boot() -> str:
    """In place of boot_id."""
    return _boot


def reboot(name: str) -> None:
    """From now on the machine is in this boot."""
    global _boot
    _boot = name


class Machine:
    """The spool in root/spool, local state in root/state."""

    def __init__(self, root: Path, disk: Disk | None = None, tape: Tape | None = None) -> None:
        self.root, self.tape = root, tape
        self.spool = Spool(root / SPOOL)
        self.disk = disk or Noting(self.note)
        self.started: list[tuple[str, str, str]] = []  # (attempt, mark, node)
        self.term: Term | None = None
        self.runners: dict[str, Any] = {}
        self.hearsay: dict[str, str] = {}  # node -> how it is heard, whatever it says
        self.files: list[str] = []  # what was submitted
        self.marks = 0
        self.prunes = False  # whether an idle head finds that all files are 20 days older than they are

    def note(self, kind: str, what: Any) -> None:
        """Something is promised, or has happened in the world."""
        if kind == "started":
            self.started.append(what)
        if self.tape is not None:
            self.tape.note(kind, what)

    # ---- its programs

    @staticmethod
    def make(root: Path, more: str = "") -> None:
        """A spool, and an empty place for local state."""
        spool = Spool(root / SPOOL)
        for path in spool.directories:
            Disk().make_dir(path, 0o700 if os.path.basename(path) in PRIVATE else 0o755)
        first = settings.first_text("mycluster", False).splitlines(True)
        text = "".join(line for line in first if not line.startswith("heartbeat:")) + SETTINGS + more
        Disk().publish_new(spool.settings, text.encode())
        os.makedirs(root / STATE, 0o700)

    @functools.cached_property
    def kept(self) -> str:
        return local.state_dir(self.settings.id, str(self.root / STATE))

    @functools.cached_property
    def settings(self) -> settings.Settings:
        return settings.load(self.spool, Disk())

    def lead(self) -> Term:
        """A head takes over."""
        known = restored.refuse(self.spool, self.disk, self.kept)
        said = self.settings
        hearing = Told(self.hearsay, said.node_timeout, said.fence_margin)
        epoch = leadership.take(self.spool, self.disk)
        assert epoch is not None
        leader = Leader("host", 1, 1.0)
        self.term = Term(self.spool, self.disk, said, hearing, True, time.time, epoch, leader, known=known)
        restored.note_led(self.kept, epoch)
        return self.term

    def look(self) -> None:
        """The head ticks until nothing is left to do at once."""
        term = self.term or self.lead()
        for _ in range(ROUNDS):
            happened = term.tick()
            if happened:
                restored.note_led(self.kept, term.epoch)
            elif term.again != 0.0:
                while self.prunes and term.pruner.step(time.time() + 20 * DAY):
                    pass
                return
        raise AssertionError("the head never comes to rest")

    def write_ledger(self) -> None:
        """As an idle head does."""
        assert self.term is not None
        self.term.keeper.write(self.term.observer.leaving.values())
        restored.note_led(self.kept, self.term.epoch)

    def join(self, name: str = NAME, gpus: int = 1) -> None:
        """A node's runner starts."""
        self.note("node", (name, gpus))
        node = DeclaredNode(f"H100:{gpus}", 4.0, 16.0, "127.0.0.1")
        runner = Runner(self.spool.root, node, name=name, state=str(self.root / STATE))
        os.close(runner.starters.orders)
        self.runners[name] = runner
        # Starters are processes of their own, which no tape sees; a hand in this one does what they do.
        runner.starters = Hand(self, runner.place)  # type: ignore[assignment]
        runner.step()

    def hands(self) -> list[Hand]:
        """Of every node whose runner lives."""
        return [runner.starters for runner in self.runners.values()]

    def end(self, code: int = 0) -> None:
        """The processes that run end."""
        for hand in self.hands():
            hand.end(code)

    def drop(self, name: str) -> None:
        """A node's runner is gone, without a word."""
        runner = self.runners.pop(name)
        for descriptor in (runner.lock, runner.bell, runner.kept):
            os.close(descriptor)

    def close(self) -> None:
        """All programs are gone, without a word."""
        self.term = None
        for name in list(self.runners):
            self.drop(name)

    def up(self) -> None:
        """A node and a head have been here for long."""
        self.join()
        self.rest()
        self.settle()

    def settle(self) -> None:
        """Everything is durable: a quiet minute."""
        if self.tape is not None:
            self.tape.settle()

    def restore_after(self, act: Callable[[], None]) -> None:
        """The spool is taken back to what it is now after something was done; that is durable, and nothing is promised
        of it but that what began does not begin again. Each runner says what it knows, and ends."""
        assert self.tape is not None
        backup, spool = self.root / "backup", self.root / SPOOL
        with self.tape.aside():
            shutil.copytree(spool, backup)
        act()
        with self.tape.aside():
            shutil.rmtree(spool)
            shutil.move(backup, spool)
        self.term = None
        self.tape.begin("started", "node")
        self.note("restored", True)

    def rest(self) -> None:
        """Head and runners, in turn, until nothing moves any more."""
        before = b""
        for _ in range(ROUNDS):
            self.look()
            for one in self.runners.values():
                one.step()
            now = self.shown()
            if now == before:
                return
            before = now
        raise AssertionError("head and runner never come to rest")

    def shown(self) -> bytes:
        """What head and runners know of jobs and nodes; without the times of files, which each telling makes anew."""
        assert self.term is not None
        phases = [sorted(runner.phases().items()) for runner in self.runners.values()]
        return SUBMITTED.sub(b"", _bytes(self.term)) + repr(phases).encode()

    # ---- its users

    def submit(self, name: str, text: str = CPU) -> None:
        """As `skyspool exec` does; noted when it has returned."""
        mark = self._mark()
        self.note("begun", mark)
        if "job_recovery" in text:
            self.note("may run again", mark)
        dropped = submission.drop(self.spool, Disk(), name, text.replace("MARK", mark).encode())
        self.files.append(dropped.file)
        self.note("submitted", (dropped.file, mark))

    def _mark(self) -> str:
        self.marks += 1
        return f"mark-{self.marks}"

    def waiting(self, name: str) -> str:
        """Where the file of a job waits."""
        found = [file for file in os.listdir(self.spool.pending) if label(file).split("+")[0] == name]
        assert len(found) == 1, f"{name} in {os.listdir(self.spool.pending)}"
        return self.spool.dropped(found[0])

    def edit(self, name: str, text: str = GPU) -> None:
        """A waiting file is written anew beside and renamed, as a careful editor does; it makes no name durable."""
        path, beside, mark = self.waiting(name), os.path.join(self.spool.tmp, "edited"), self._mark()
        was = MARK.findall(Path(path).read_text())[0]
        self.note("edits", (was, mark))
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, text.replace("MARK", mark).encode())
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(beside, path)

    def delete(self, name: str) -> None:
        """rm a waiting file; that makes nothing durable either."""
        path = self.waiting(name)
        self.note("removes", MARK.findall(Path(path).read_text()))
        os.unlink(path)

    def prune(self) -> None:
        """From now on files are so old that an idle head removes what it need not keep."""
        self.prunes = True
        self.note("prunes", True)
        self.look()

    def cancel(self, name: str) -> None:
        """As `skyspool cancel` does: what was submitted by that name so far."""
        files = [file for file in self.files if file.startswith(f"{name}@")]
        self.note("cancelled", files)
        submission.ask(self.spool, Disk(), f"cancel: {name}\n...\n".encode())
        self.note("asked", files)

    # ---- what is true

    def events(self) -> list[AnyEvent]:
        """Every event that counts, of all epochs, also of those that were packed away."""
        counted = self.counted()
        return [event for epoch in sorted(counted) for event in decode_events(counted[epoch])[0]]

    def counted(self) -> dict[int, bytes]:
        """Of each epoch's file, what counts."""
        found = [*Path(self.spool.events).glob("*.jsonl"), *Path(self.spool.archive).glob("*/*.jsonl")]
        by_epoch = {int(path.stem): path.read_bytes() for path in found}
        seals: dict[int, int] = {}
        for epoch in sorted(by_epoch):
            first = decode_events(by_epoch[epoch])[0][:1]
            if first and isinstance(first[0], Sealed):
                seals.update(first[0].seals)
        return {epoch: data[: seals.get(epoch)] for epoch, data in by_epoch.items()}

    def texts(self) -> list[str]:
        """The files of jobs, wherever they stand."""
        spool = self.spool
        folders = (spool.pending, spool.claims, spool.running, spool.done, spool.rejected)
        files = [os.path.join(place, name) for top in folders for place, _, names in os.walk(top) for name in names]
        return [Path(file).read_text() for file in files if file.endswith(".yaml")]


def _bytes(term: Term) -> bytes:
    return encode(term.state.to_ledger("", "", (0, 0), 0, 0.0))


def _apart_from_leader(term: Term) -> bytes:
    return encode(msgspec.structs.replace(term.state.to_ledger("", "", (0, 0), 0, 0.0), leader=Leader()))


# ---- after the loss ------------------------------------------------------------------------------------------


def rebuilt(root: Path, found: Found) -> Machine:
    """The machine as the power loss left it, before anything is started."""
    for part in (SPOOL, STATE):
        shutil.rmtree(root / part, ignore_errors=True)
    disk = SameInodes(build(str(root), found.state))
    reboot("the first boot" if found.world == SERVER else "the second boot")
    return Machine(root, disk)


def wake(machine: Machine, runner_first: bool, facts: Facts) -> None:
    """Start everything again, until nothing moves any more."""
    chance.begin("after the loss")
    machine.prunes = facts.prunes
    history.read_present(machine.spool, machine.disk)  # what a client shows while no head is there
    if not runner_first:
        machine.look()
    for name, gpus in facts.nodes.items():
        machine.join(name, gpus)
    machine.rest()


def run_out(machine: Machine) -> None:
    """Let it run until every job is over."""
    assert machine.term is not None
    for _ in range(len(machine.term.state.jobs)):
        machine.end()
        machine.rest()


def word(machine: Machine, facts: Facts) -> Hashable:
    """Where two are the same, the rest of their lives is: the disk, what the programs know, what is to be kept."""
    assert isinstance(machine.disk, SameInodes)
    disk = picture(str(machine.root), machine.disk.inodes)
    assert machine.term is not None
    memory = memory_of(machine.term), *map(memory_of_node, machine.runners.values())
    return disk, machine.shown(), memory, local_boot(), tuple(machine.started), facts.count


class Facts:
    """What had been promised by a moment. count: how much of it."""

    def __init__(self, tape: Tape, moment: int) -> None:
        known = [(kind, what) for at, kind, what in tape.facts if at <= moment]
        self.count = len(known)
        self.submitted: list[tuple[str, str]] = [what for kind, what in known if kind == "submitted"]
        self.committed: list[tuple[str, bytes]] = [what for kind, what in known if kind == "committed"]
        self.started: list[tuple[str, str, str]] = [what for kind, what in known if kind == "started"]
        self.carried_out: set[str] = {file for kind, files in known if kind == "asked" for file in files}
        # what may have happened, though nobody was told
        self.begun: set[str] = {what for at, kind, what in tape.facts if kind == "begun"}
        self.cancelled: set[str] = {file for at, kind, files in tape.facts if kind == "cancelled" for file in files}
        self.may_run_again: set[str] = {what for at, kind, what in tape.facts if kind == "may run again"}
        # by the mark of what was submitted: the marks of what its owner made of it; files that he removed, or prune did
        self.edits: dict[str, list[str]] = {mark: [mark] for mark in self.begun}
        for was, now in [what for at, kind, what in tape.facts if kind == "edits"]:
            next(marks for marks in self.edits.values() if was in marks).append(now)
        self.went_back = any(kind == "restored" for kind, _ in known)
        self.pruning = any(kind == "prunes" for kind, _ in known)
        self.prunes = any(kind == "prunes" for at, kind, what in tape.facts)
        self.removed: set[str] = {mark for at, kind, marks in tape.facts if kind == "removes" for mark in marks}
        if self.prunes:
            prunes = next(n for n, (at, kind, what) in enumerate(tape.facts) if kind == "prunes")
            self.removed |= {what for at, kind, what in tape.facts[:prunes] if kind == "begun"}
        noted = [event for _, data in self.committed for event in decode_events(data)[0]]
        self.noted = {event.id for event in noted if isinstance(event, Edited | Returned)}
        # the machine's nodes, with their GPUs; those that a story brought
        self.nodes = dict(what for at, kind, what in tape.facts if kind == "node") or {NAME: 1}


def judge(machine: Machine, facts: Facts) -> Iterator[str]:
    """What is not as it was promised, as sentences."""
    assert machine.term is not None
    counted = machine.counted()
    events = [event for epoch in sorted(counted) for event in decode_events(counted[epoch])[0]]
    for name, data in facts.committed:
        if data not in counted.get(int(name.removesuffix(".jsonl")), b""):
            yield f"an event that was committed is lost: {decode_events(data)[0]}"
    yield from _submissions(machine, facts, events)
    yield from _starts(machine, facts)
    if facts.went_back and not any(isinstance(event, Sealed) and event.restored for event in events):
        yield "the spool went back in time, heads lead again, and no event says so"
    if facts.pruning:
        yield from (f"{path} is not removed, and is too old to be kept" for path in _old(machine.spool))
    yield from (f"P3: {sentence}" for sentence in broken(machine.term.state))
    yield from (f"{job} never ends" for job in machine.term.state.jobs.values())
    for folder in (machine.spool.pending, machine.spool.running, machine.spool.requests, machine.term.epoch.claims):
        yield from (f"{folder} holds {name} at the end" for name in os.listdir(folder))
    told = gather(machine.spool, machine.disk, machine.settings.id)
    yield from (f"fsck: {finding.place}: {finding.text}" for finding in fsck(told) if finding.fault)


def _old(spool: Spool) -> Iterator[str]:
    """What `prune` has to remove in the end: all but what ended today."""
    today = time.strftime("%Y-%m-%d", time.gmtime(clock.now))
    for folder in (spool.done, spool.rejected, spool.logs):
        yield from (os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != today)


def _submissions(machine: Machine, facts: Facts, events: list[AnyEvent]) -> Iterator[str]:
    accepted = [event for event in events if isinstance(event, Accepted)]
    ids = [event.id for event in accepted]
    if len(set(ids)) < len(ids):
        yield f"an ID was given twice: {ids}"
    ends: dict[int, Ended | Lost] = {event.id: event for event in events if isinstance(event, Ended)}
    ends |= {event.id: event for event in events if isinstance(event, Lost) and not event.again}
    lost = [event.restored for event in events if isinstance(event, Sealed) and event.restored is not None]
    restored = {job.id for event in lost for job in event.jobs}
    restored |= {ident for event in events if isinstance(event, Surfaced) for ident in event.over}
    granted = {event.id for event in events if isinstance(event, Started)}
    marks = dict(facts.submitted)
    texts = machine.texts()
    for mark in sorted(facts.begun):
        copies = sum(f"{one}\n" in text for text in texts for one in facts.edits[mark])
        if copies > 1 or (mark in marks.values() and not copies and not facts.removed & {*facts.edits[mark]}):
            yield f"P6: the file of {facts.edits[mark]} stands in {copies} places"
    refused = {event.drop for event in events if isinstance(event, Rejected) and event.file}
    for file in sorted(({event.drop for event in accepted} | marks.keys()) - refused):
        jobs = [event.id for event in accepted if event.drop == file]
        if len(jobs) != 1:
            yield f"P1, P2: {file} was accepted {len(jobs)} times: {jobs}"
        own = {*facts.edits.get(marks.get(file, ""), ())}
        # what was changed after its start, and nobody had seen that, is a job of its own (spoold/head/recover.py)
        removed = bool(facts.removed & own) or (len(own) > 1 and not facts.noted & {*jobs})
        for ident in jobs:
            if ident not in restored:
                yield from _end(facts, ends.get(ident), ident in granted, file, removed)


def _end(facts: Facts, end: Ended | Lost | None, granted: bool, file: str, removed: bool) -> Iterator[str]:
    if end is None:
        yield f"{file} has no end"
    elif end.status is Status.CANCELLED and file not in facts.cancelled and not removed:
        yield f"P6: nobody cancelled {file}: {end.reason}"
    elif end.status not in (Status.CANCELLED, Status.SUCCEEDED) and not (
        granted and any(w in end.reason for w in LOST)
    ):
        yield f"{file} is {end.status}: {end.reason}"
    elif file in facts.carried_out and not granted and end.status is not Status.CANCELLED:
        yield f"{file} was cancelled while it waited, and is {end.status}"


def _starts(machine: Machine, facts: Facts) -> Iterator[str]:
    every = [*facts.started, *machine.started]
    keys = [(key, node) for key, _, node in every]
    for key, node in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"P4: attempt {key} was started {keys.count((key, node))} times on {node}"
    attempts = {(mark, key) for key, mark, _ in every}
    for mark in sorted({mark for mark, _ in attempts} - facts.may_run_again):
        if (count := sum(mark == other for other, _ in attempts)) > 1:
            yield f"{mark} ran {count} times: {every}"


def again(machine: Machine) -> Iterator[str]:
    """P8: another head finds nothing to mend."""
    assert machine.term is not None
    before = _apart_from_leader(machine.term)
    events = len(machine.events())
    machine.term = None
    machine.rest()
    assert machine.term is not None
    if (now := _apart_from_leader(machine.term)) != before:
        yield f"P8: repaired again, it is another state:\n{before.decode()}\n{now.decode()}"
    if len(machine.events()) > events + 1:
        yield f"P8: repaired again, more happened: {machine.events()[events:]}"


# ---- standing in ---------------------------------------------------------------------------------------------


def signal_nobody(process: containment.Process, number: int) -> None:
    """In place of signals: the processes are only told of."""


class AtOnce:
    """In place of a pool of threads: each call is made when it is asked for."""

    map = staticmethod(map)

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def no_containers(*_: object, **__: object) -> str:
    """In place of the search for engines: there are none."""
    return ""


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs run in this process, without threads, without waiting, and reboot when they are told to; what
    they make by chance and the time that they tell are the same each time."""
    # The real ones give each recovery other times and names, so that no two that are alike could be seen to be.
    clock.now = time.time()
    monkeypatch.setattr(time, "time", clock.tell)
    monkeypatch.setattr(os, "urandom", chance.bytes)
    monkeypatch.setattr(secrets, "token_hex", chance.hex)
    for name, module in list(sys.modules.items()):
        if name.startswith("spoold") and hasattr(module, "boot_id"):
            monkeypatch.setattr(module, "boot_id", local_boot)
    monkeypatch.setattr(containment, "signal_process", signal_nobody)
    monkeypatch.setattr(runner, "Waker", Deaf)
    monkeypatch.setattr(identity, "LONGEST_WATCH", 0.0)  # seconds that another runner's beat is waited for
    for place in (cleaning, memory):
        monkeypatch.setattr(place, "stop_containers", no_containers)
    for place in (restored, runner):
        monkeypatch.setattr(place, "PAUSE", 0.0)
    # Neither has to do with the disk; together they took a sixth of each recovery.
    monkeypatch.setattr(settings, "parse", functools.cache(settings.parse))
    monkeypatch.setattr(memory, "ThreadPoolExecutor", AtOnce)
