"""One machine with a spool, a head and a node on it, in this process: it loses power, starts again, and is judged.

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
from spool_layout.events import Accepted, AnyEvent, Ended, Rejected, Sealed, Started, decode_events
from spool_layout.modes import PRIVATE
from spool_layout.paths import Spool
from spool_layout.records import Leader, encode
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
from tests.faults.chance import chance
from tests.faults.pictures import picture
from tests.faults.power import SERVER, SPOOL, STATE, Found, Tape, build

NAME = "n1"
CPU, GPU = "run: echo MARK\n...\n", "resources: {accelerators: H100:1}\nrun: echo MARK\n...\n"
SETTINGS = "shell: plain\nheartbeat: 100s\nnode_timeout: 1000s\ngrace: 1s\nsettle: 0\n"
ROUNDS = 40  # of head and runner after which they are taken for never coming to rest
LOST = ("its host was rebooted", "the node's local state was lost", "lost")
MARK = re.compile(r"mark-\w+")


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

    def _inspect(self, path: str, limit: int) -> Seen:
        seen = super()._inspect(path, limit)
        return seen._replace(inode=self.inodes.get(seen.inode, seen.inode))

    def stat(self, path: str) -> Any:
        info = super().stat(path)
        if info is None or info.st_ino not in self.inodes:
            return info
        told = {name: getattr(info, name) for name in dir(info) if name.startswith("st_")}
        return SimpleNamespace(**{**told, "st_ino": self.inodes[info.st_ino]})


class Hand:
    """In place of the starter: begins an attempt as supervisors do, by its marker; its process is only told of."""

    trouble = ""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.place = machine, machine.runner.place

    def look(self) -> None:
        pass

    def order(self, key: str) -> None:
        attempt = self.place.attempt(key)
        names = attempt.names()
        if "order.json" not in names or names & {"marker", "outcome"} or not attempt.mark("supervisor"):
            return
        mark = MARK.findall(Path(attempt.file("run.sh")).read_text())[0]
        self.machine.note("started", (key, mark))
        attempt.write("run.pid", {"pid": os.getpid(), "start": 0, "at": time.time()})

    def end(self, code: int = 0) -> None:
        """The processes that run end; those of an earlier boot have."""
        for attempt in map(self.place.attempt, self.place.remembered()):
            lives = (attempt.read("marker") or {}).get("boot") == local_boot()
            if lives and not attempt.names() & {"run.exit", "outcome"}:
                attempt.write("run.exit", {"code": code, "at": time.time(), "fenced": False, "gone": True})


class Deaf:
    """In place of the runner's waker: it is driven pass by pass, and no thread runs beside."""

    native = True

    def __init__(self, local: bool, ignored: frozenset[bytes]) -> None:
        pass

    def watch(self, folder: str) -> None:
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
        self.started: list[tuple[str, str]] = []
        self.term: Term | None = None
        self.runner: Any = None
        self.hand: Any = None
        self.files: list[str] = []  # what was submitted

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
        text = settings.first_text("mycluster", False) + SETTINGS + more
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
        restored.refuse(self.spool, self.disk, self.kept)
        said = self.settings
        hearing = Hearing(said.node_timeout, said.fence_margin)
        epoch = leadership.take(self.spool, self.disk)
        assert epoch is not None
        leader = Leader("host", 1, 1.0)
        self.term = Term(self.spool, self.disk, said, hearing, True, time.time, epoch, leader)
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
                return
        raise AssertionError("the head never comes to rest")

    def write_ledger(self) -> None:
        """As an idle head does."""
        assert self.term is not None
        self.term.keeper.write(self.term.observer.leaving.values())
        restored.note_led(self.kept, self.term.epoch)

    def join(self, gpus: int = 1) -> None:
        """The node's runner starts."""
        node = DeclaredNode(f"H100:{gpus}", 4.0, 16.0, "127.0.0.1")
        self.runner = Runner(self.spool.root, node, name=NAME, state=str(self.root / STATE))
        os.close(self.runner.starters.orders)
        self.hand = Hand(self)
        self.runner.starters = self.hand
        self.runner.step()

    def close(self) -> None:
        """Both programs are gone, without a word."""
        self.term = None
        if self.runner is not None:
            for descriptor in (self.runner.lock, self.runner.bell, self.runner.kept):
                os.close(descriptor)
            self.runner = None

    def up(self) -> None:
        """A node and a head have been here for long."""
        self.join()
        self.rest()
        self.settle()

    def settle(self) -> None:
        """Everything is durable: a quiet minute."""
        if self.tape is not None:
            self.tape.settle()

    def rest(self) -> None:
        """Head and runner, in turn, until nothing moves any more."""
        before = b""
        for _ in range(ROUNDS):
            self.look()
            if self.runner is not None:
                self.runner.step()
            now = self.shown()
            if now == before:
                return
            before = now
        raise AssertionError("head and runner never come to rest")

    def shown(self) -> bytes:
        """What head and runner know of jobs and nodes."""
        assert self.term is not None
        phases = self.runner.phases() if self.runner is not None else {}
        return _bytes(self.term) + repr(sorted(phases.items())).encode()

    # ---- its users

    def submit(self, name: str, text: str = CPU) -> None:
        """As `skyspool exec` does; noted when it has returned."""
        mark = f"mark-{len(self.files)}"
        self.note("begun", mark)
        dropped = submission.drop(self.spool, Disk(), name, text.replace("MARK", mark).encode())
        self.files.append(dropped.file)
        self.note("submitted", (dropped.file, mark))

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

    def copies(self, mark: str) -> int:
        """In how many places the file of a job stands."""
        spool = self.spool
        folders = (spool.pending, spool.claims, spool.running, spool.done, spool.rejected)
        files = [path for folder in folders for path in Path(folder).rglob("*.yaml") if path.is_file()]
        return sum(f"{mark}\n" in path.read_text() for path in files)


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


def wake(machine: Machine, runner_first: bool) -> None:
    """Start everything again, until nothing moves any more."""
    chance.begin("after the loss")
    history.read_present(machine.spool, machine.disk)  # what a client shows while no head is there
    if not runner_first:
        machine.look()
    machine.join()
    machine.rest()


def run_out(machine: Machine) -> None:
    """Let it run until every job is over."""
    assert machine.term is not None
    for _ in range(len(machine.term.state.jobs)):
        machine.hand.end()
        machine.rest()


def word(machine: Machine, facts: Facts) -> Hashable:
    """Where two are the same, the rest of their lives is: the disk, what the programs know, what is to be kept."""
    assert isinstance(machine.disk, SameInodes)
    disk = picture(str(machine.root), machine.disk.inodes)
    return disk, machine.shown(), local_boot(), tuple(machine.started), facts.count


class Facts:
    """What had been promised by a moment. count: how much of it."""

    def __init__(self, tape: Tape, moment: int) -> None:
        known = [(kind, what) for at, kind, what in tape.facts if at <= moment]
        self.count = len(known)
        self.submitted: list[tuple[str, str]] = [what for kind, what in known if kind == "submitted"]
        self.committed: list[tuple[str, bytes]] = [what for kind, what in known if kind == "committed"]
        self.started: list[tuple[str, str]] = [what for kind, what in known if kind == "started"]
        self.carried_out: set[str] = {file for kind, files in known if kind == "asked" for file in files}
        # what may have happened, though nobody was told
        self.begun: set[str] = {what for at, kind, what in tape.facts if kind == "begun"}
        self.cancelled: set[str] = {file for at, kind, files in tape.facts if kind == "cancelled" for file in files}


def judge(machine: Machine, facts: Facts) -> Iterator[str]:
    """What is not as it was promised, as sentences."""
    assert machine.term is not None
    counted, events = machine.counted(), machine.events()
    for name, data in facts.committed:
        if data not in counted.get(int(name.removesuffix(".jsonl")), b""):
            yield f"an event that was committed is lost: {decode_events(data)[0]}"
    yield from _submissions(machine, facts, events)
    yield from _starts(machine, facts)
    yield from (f"P3: {sentence}" for sentence in broken(machine.term.state))
    yield from (f"{job} never ends" for job in machine.term.state.jobs.values())
    for folder in (machine.spool.pending, machine.spool.running, machine.spool.requests, machine.term.epoch.claims):
        yield from (f"{folder} holds {name} at the end" for name in os.listdir(folder))
    told = gather(machine.spool, machine.disk, machine.settings.id)
    yield from (f"fsck: {finding.place}: {finding.text}" for finding in fsck(told) if finding.fault)


def _submissions(machine: Machine, facts: Facts, events: list[AnyEvent]) -> Iterator[str]:
    accepted = [event for event in events if isinstance(event, Accepted)]
    ids = [event.id for event in accepted]
    if len(set(ids)) < len(ids):
        yield f"an ID was given twice: {ids}"
    ends = {event.id: event for event in events if isinstance(event, Ended)}
    granted = {event.id for event in events if isinstance(event, Started)}
    marks = dict(facts.submitted)
    for mark in sorted(facts.begun):
        copies = machine.copies(mark)
        if copies > 1 or (mark in marks.values() and not copies):
            yield f"P6: the file of {mark} stands in {copies} places"
    refused = {event.drop for event in events if isinstance(event, Rejected) and event.file}
    for file in sorted(({event.drop for event in accepted} | marks.keys()) - refused):
        jobs = [event.id for event in accepted if event.drop == file]
        if len(jobs) != 1:
            yield f"P1, P2: {file} was accepted {len(jobs)} times: {jobs}"
        for ident in jobs:
            yield from _end(facts, ends.get(ident), ident in granted, file)


def _end(facts: Facts, end: Ended | None, granted: bool, file: str) -> Iterator[str]:
    if end is None:
        yield f"{file} has no end"
    elif end.status is Status.CANCELLED and file not in facts.cancelled:
        yield f"P6: nobody cancelled {file}: {end.reason}"
    elif end.status not in (Status.CANCELLED, Status.SUCCEEDED) and not (
        granted and any(w in end.reason for w in LOST)
    ):
        yield f"{file} is {end.status}: {end.reason}"
    elif file in facts.carried_out and not granted and end.status is not Status.CANCELLED:
        yield f"{file} was cancelled while it waited, and is {end.status}"


def _starts(machine: Machine, facts: Facts) -> Iterator[str]:
    every = [*facts.started, *machine.started]
    keys, marks = [key for key, _ in every], [mark for _, mark in every]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"P4: attempt {key} was started {keys.count(key)} times"
    for mark in sorted({mark for mark in marks if marks.count(mark) > 1}):
        yield f"{mark} ran {marks.count(mark)} times: {every}"


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


def no_containers(*_: object, **__: object) -> str:
    """In place of the search for engines: there are none."""
    return ""


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs run in this process, without threads, without waiting, and reboot when they are told to; what
    they make by chance and the time that they tell are the same each time."""
    # The real ones give each recovery other times and names, so that no two that are alike could be seen to be.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
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
