"""A spool on a real directory, heads that can be killed or paused before any operation on the disk, simulated nodes.

A story is a function that acts on a Stage as users and nodes do and calls `look` where a head would look. The same
story is told once for each operation that the head makes on the disk (`cuts`), each time killed there: the next head
takes over, the story goes on, and at its end `Stage.audit` asks whether all that was promised came true. The kill
itself changes nothing on the disk, so that fsync is left out (see conftest.py).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spool_layout import history, leadership
from spool_layout.errors import Deposed
from spool_layout.events import Accepted, AnyEvent, Sealed, Started, decode_events
from spool_layout.localdisk import LocalDisk
from spool_layout.paths import Spool, id_of, label
from spool_layout.records import GONE, WHOLE, Assigned, Assignment, Gpu, Job, Leader, NodeStatus, Phase, decode, encode
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.states import Status
from spool_layout.storage import Disk
from spoold.core.hearing import Hearing
from spoold.core.invariants import broken
from spoold.head.term import Term

SETTINGS = Settings(format=1, id="0" * 16, name="test", settle=0.0)
GPU = "resources: {accelerators: H100:1}\nrun: echo NAME\n...\n"
CPU = "run: echo NAME\n...\n"
LOOKS = 15  # in a row after which a head that always finds something to do is taken for one that never comes to rest


class Killed(BaseException):
    """kill -9, here. Nothing catches it."""


class Mortal(LocalDisk):
    """A disk that counts the operations which change it, and stops its head before one of them.

    at: the number of that operation, from 1; None: never. whole: an append is stopped not before it but within it, when
    so many of its records and half of the next one are written.
    trap: the same by what the operation is, as `done` tells it. stop: what happens there; by default, a kill.
    """

    def __init__(self, at: int | None = None, whole: int | None = None, stop: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.at, self.whole, self.stop = at, whole, stop
        self.trap: Callable[[str], bool] = lambda what: False
        self.done: list[str] = []
        self.records: dict[int, int] = {}  # number of an append -> how many records it had

    def _pass(self, what: str, *paths: str) -> bool:
        """Count an operation; stop before it if it is the one. True: stop within it."""
        self.done.append(f"{what} {' -> '.join('/'.join(path.split('/')[-3:]) for path in paths)}")
        if self.at != len(self.done) and not self.trap(self.done[-1]):
            return False
        if self.whole is not None and what == "append":
            return True
        self._stop()
        return False

    def _stop(self) -> None:
        if self.stop is None:
            raise Killed
        self.stop()

    def append(self, path: str, data: bytes, offset: int) -> None:
        lines = data.splitlines(keepends=True)
        self.records[len(self.done) + 1] = len(lines)
        if self._pass("append", path):
            kept = lines[: self.whole] + [line[: len(line) // 2] for line in lines[self.whole :][:1]]
            super().append(path, b"".join(kept), offset)
            self._stop()
        super().append(path, data, offset)

    def publish(self, path: str, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
        self._pass("publish", path)
        super().publish(path, data, mode, durable)

    def publish_new(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        self._pass("publish_new", path)
        return super().publish_new(path, data, mode)

    def add_lines(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._pass("add_lines", path)
        super().add_lines(path, data, mode)

    def make_dir(self, path: str, mode: int = 0o755) -> bool:
        self._pass("make_dir", path)
        return super().make_dir(path, mode)

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        self._pass("move", source, target)
        return super().move(source, target, inode)

    def remove(self, path: str) -> None:
        if os.path.basename(path).startswith(".part-"):  # a step within publish
            return super().remove(path)
        self._pass("remove", path)
        return super().remove(path)

    def remove_dir(self, path: str) -> bool:
        self._pass("remove_dir", path)
        return super().remove_dir(path)


class Repeating(Disk):
    """A disk that loses the reply of one move, as NFS may: the call is repeated, and finds nothing to move.

    at: the number of that move, from 1.
    """

    def __init__(self, at: int) -> None:
        self.at, self.moves = at, 0

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        self.moves += 1
        if self.moves == self.at:
            super().move(source, target, inode)
        return super().move(source, target, inode)


class Told(Hearing):
    """Nodes are heard as the story says."""

    def __init__(self) -> None:
        super().__init__(30.0, 5.0)
        self.said: dict[str, str] = {}

    def judge(self, status: NodeStatus, age: float, now: float, recorded: str) -> str:
        return self.said.get(status.node, "up")


class Node:
    """A node as its status.json shows it: it starts what it is told, once, and stops what it is told."""

    def __init__(self, spool: Spool, name: str, gpus: int) -> None:
        self.spool, self.name, self.disk = spool, name, Disk()
        self.gpus = [Gpu(f"{name}/{index}", index, "H100") for index in range(gpus)]
        self.seen = self.read = (0, 0)
        self.beat = 0
        self.phases: dict[str, Phase] = {}
        self.orders: dict[str, Assignment] = {}
        self.ran: list[tuple[str, str]] = []  # (attempt, text) of all that was ever started
        self.refused: list[str] = []  # attempts whose file was not what was accepted
        self.over: set[str] = set()  # names of jobs whose process may end
        self.disk.make_dir(spool.node(name))
        self.report()

    def step(self) -> None:
        """Read assigned.json, act, report."""
        data = self.disk.read(self.spool.assigned(self.name))
        if data is not None:
            assigned = decode(data, Assigned, self.name)
            self.read = assigned.version
            if assigned.version >= self.seen:
                self.seen = assigned.version
                self.act(assigned.attempts)
        self.report()

    def act(self, attempts: dict[str, Assignment]) -> None:
        for key in [key for key, phase in self.phases.items() if phase.phase in GONE and key not in attempts]:
            del self.phases[key]
        for key, order in attempts.items():
            phase = self.phases.get(key)
            if order.want == "stop":
                if phase is None or phase.phase not in GONE:
                    self.phases[key] = Phase("ended", code=143) if phase else Phase("never")
            elif phase is None:
                self.start(key, order)
        for key, phase in self.phases.items():
            if phase.phase == "running" and self.orders[key].name in self.over:
                self.phases[key] = Phase("ended", code=0, pid=7, started_at=1.0, ended_at=2.0)

    def start(self, key: str, order: Assignment) -> None:
        text = self.disk.read(self.spool.started(order.file))
        if text is None or history.digest(text) != order.digest:
            self.phases[key] = Phase("never", stage="file", reason="its file is not what was accepted")
            self.refused.append(key)
            return
        self.orders[key] = order
        self.ran.append((key, text.decode()))
        self.phases[key] = Phase("running", pid=7, started_at=1.0)
        self.check()

    def check(self) -> None:
        """No GPU is used above one, by what really runs."""
        used = {gpu.uuid: 0 for gpu in self.gpus}
        for key, phase in self.phases.items():
            if phase.phase == "running":
                for uuid in self.orders[key].gpus:
                    used[uuid] += min(self.orders[key].milli, WHOLE)
        assert all(milli <= WHOLE for milli in used.values()), f"P3: {self.phases} run on {used}"

    def report(self) -> None:
        self.beat += 1
        status = NodeStatus(
            1,
            self.name,
            self.name,
            1,
            self.beat,
            2.0,
            gpus=self.gpus,
            address="127.0.0.1",
            cpus_milli=64000,
            memory_mb=65536,
            seen=self.seen,
            read=self.read,
            read_incarnation=1,
            attempts=dict(self.phases),
        )
        self.disk.publish(self.spool.status(self.name), encode(status), durable=False)


class Stage:
    """One spool, its users and nodes, and the head that leads."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.spool, self.disk = Spool(folder), disk or Disk()
        self.first = self.disk if isinstance(self.disk, Mortal) else Mortal()
        for directory in self.spool.directories:
            os.makedirs(directory, exist_ok=True)
        self.hearing = Told()
        self.nodes: dict[str, Node] = {}
        self.texts: dict[str, str] = {}  # mark in a text -> drop name, of all that has to come to an end
        self.deleted: set[str] = set()  # names of jobs whose file the user removed
        self.term: Term | None = None
        self.killed = 0
        self.meanwhile: Callable[[], None] = lambda: None  # what users do between a kill and the next head
        self.mend: Callable[[], Disk] = LocalDisk  # the disk of the head after a kill
        self.later = 0.0  # seconds that attempts which are over may stay in assigned.json

    # ---- the head

    def look(self) -> None:
        """Let the head look until nothing is left to do at once; where it is killed, another one takes over."""
        while True:
            try:
                return self._look()
            except Killed:
                self.killed += 1
                self.term, self.disk = None, self.mend()
                self.each_file_once()
                self.why_and_how_come_first()
                self.meanwhile()

    def write_ledger(self) -> None:
        """As an idle head does."""
        while True:
            try:
                if self.term is None:
                    self._look()
                assert self.term is not None
                if self.term.keeper.is_due(True):
                    self.term.keeper.write()
                return None
            except Killed:
                self.killed += 1
                self.term, self.disk = None, self.mend()

    def lead(self, disk: Disk) -> Term:
        """A new head takes over."""
        epoch = leadership.take(self.spool, disk)
        if epoch is None:
            raise Deposed("another head was faster")
        leader = Leader("host", 1, 1.0)
        return Term(self.spool, disk, SETTINGS, self.hearing, True, time.time, epoch, leader, later=self.later)

    def _look(self) -> None:
        if self.term is None:
            self.term = self.lead(self.disk)
        for _ in range(LOOKS):
            busy = self.term.tick()
            self.memory_is_the_disk()
            if not busy and self.term.again != 0.0:
                return
        raise AssertionError(f"the head never comes to rest: {[str(e) for e in self.events()[-6:]]}")

    def memory_is_the_disk(self) -> None:
        """What the head believes is what everybody else reads."""
        assert self.term is not None
        told = history.read_present(self.spool, Disk()).state
        assert _bytes(self.term.state) == _bytes(told), f"\n{_bytes(self.term.state)}\n{_bytes(told)}"
        assert broken(told) == broken(self.term.state) == []
        projector = self.term.projector
        for name, turn in projector.turns.items():
            known = name in projector.wrote and name in told.nodes and name not in projector.over
            if known and turn == self.term.state.turn(name):
                wanted, last = projector.desired(name), projector.wrote[name]
                assert (last.attempts, last.incarnation) == (wanted.attempts, wanted.incarnation)

    # ---- nodes

    def node(self, name: str, gpus: int = 1) -> Node:
        """A node reports."""
        self.nodes[name] = Node(self.spool, name, gpus)
        return self.nodes[name]

    def run(self) -> None:
        """Head and nodes until nothing moves any more."""
        before = b""
        while (now := self._shown()) != before:
            before = now
            self.look()
            for node in self.nodes.values():
                if self.hearing.said.get(node.name, "up") == "up":
                    node.step()

    def _shown(self) -> bytes:
        if self.term is None:
            return b"none"
        return _bytes(self.term.state) + repr([n.phases for n in self.nodes.values()]).encode()

    def finish(self, *names: str) -> None:
        """The processes of these jobs end with 0."""
        for node in self.nodes.values():
            node.over |= set(names)
        self.run()

    # ---- users

    def drop(self, name: str, text: str = GPU) -> None:
        """mv a task file into pending/. Its label is in the text, by which it is known from then on."""
        self._put(self.spool.dropped(f"{name}.yaml"), self._text(name, text))

    def bad(self, name: str, mark: str) -> None:
        """A file that is no task."""
        self._put(self.spool.dropped(f"{name}.yaml"), f"- NAME {mark}\n...\n")

    def request(self, text: str, name: str = "r.yaml") -> None:
        """mv a request into requests/."""
        self._put(self.spool.request(name), f"{text}\n...\n")

    def waiting(self, name: str) -> str:
        """Where the file of a job stands in pending/; fails if it does not."""
        found = [file for file in os.listdir(self.spool.pending) if label(file).split("+")[0] == name]
        assert len(found) == 1, f"{name} in {os.listdir(self.spool.pending)}"
        return self.spool.dropped(found[0])

    def replace(self, name: str, text: str = GPU) -> None:
        """Edit a waiting file as editors do that write anew and rename."""
        path = self.waiting(name)
        self._forget(name)
        self._put(path, self._text(name, text))

    def edit(self, name: str, text: str = GPU) -> None:
        """Edit a waiting file in place: the inode stays."""
        path = Path(self.waiting(name))
        self._forget(name)
        path.write_text(self._text(name, text))

    def delete(self, name: str) -> None:
        """rm a waiting file."""
        os.unlink(self.waiting(name))
        self._forget(name)
        self.deleted.add(name)

    def put_new(self, path: str, name: str, text: str = CPU) -> None:
        """A file of its own under exactly this path. name: the label that its job will have."""
        self._put(path, self._text(name, text))

    def unlink(self, path: Path) -> None:
        """rm any file of the spool."""
        text = path.read_text()
        path.unlink()
        self.texts = {mark: ("" if f"{mark}\n" in text else name) for mark, name in self.texts.items()}
        self.deleted.add(label(path.name))

    def _text(self, name: str, text: str) -> str:
        mark = f"mark-{len(self.texts)}-{name}"
        self.texts[mark] = name
        return text.replace("NAME", mark)

    def _forget(self, name: str) -> None:
        self.texts = {mark: (n if n != name else "") for mark, n in self.texts.items()}

    def _put(self, path: str, text: str) -> None:
        made = os.path.join(self.spool.tmp, "made")
        Path(made).write_text(text)
        os.rename(made, path)

    # ---- what is true

    def files(self) -> Iterator[Path]:
        """All files of users, wherever they stand."""
        spool = self.spool
        for folder in (spool.pending, spool.claims, spool.running, spool.done, spool.rejected):
            yield from (path for path in Path(folder).rglob("*.yaml") if path.is_file())

    def each_file_once(self) -> None:
        """No file of a user is lost or doubled, at any moment (P2, P6)."""
        texts = [path.read_text() for path in self.files()]
        for mark, name in self.texts.items():
            copies = sum(f"{mark}\n" in text for text in texts)
            assert copies == (1 if name else 0), f"P6: {mark} ({name}) stands in {copies} places"

    def why_and_how_come_first(self) -> None:
        """No file stands in rejected/ without its reason, at any moment, and none in done/ without its line there."""
        rejected = {path.name for path in Path(self.spool.rejected).iterdir()}
        assert {f"{path.stem}.error" for path in Path(self.spool.rejected).glob("*.yaml")} <= rejected
        files = {id_of(path.name) for path in Path(self.spool.done).glob("*/*.yaml")}
        assert files <= self.told_in_done().keys(), f"P6: {files} stand in done/, which tells of {self.told_in_done()}"

    def told_in_done(self) -> dict[int | None, Job]:
        """The jobs of which there is a line in done/, by ID."""
        lines = [line for path in Path(self.spool.done).glob("*/*.jsonl") for line in path.read_bytes().splitlines()]
        return {job.id: job for job in (decode(line, Job, "done/") for line in lines)}

    def events(self) -> list[AnyEvent]:
        """Every event that counts, of all epochs, also of those that were packed away."""
        found = [*Path(self.spool.events).glob("*.jsonl"), *Path(self.spool.archive).glob("*/*.jsonl")]
        by_epoch = {int(path.stem): path.read_bytes() for path in found}
        seals: dict[int, int] = {}
        for epoch in sorted(by_epoch):
            first = decode_events(by_epoch[epoch])[0][:1]
            if first and isinstance(first[0], Sealed):
                seals.update(first[0].seals)
        return [event for epoch in sorted(by_epoch) for event in decode_events(by_epoch[epoch][: seals.get(epoch)])[0]]

    def jobs(self) -> dict[str, list[Job]]:
        """Live and ended jobs by the label of their file."""
        assert self.term is not None
        found: dict[str, list[Job]] = {}
        for job in self.term.state.known():
            found.setdefault(label(job.file).split("+")[0], []).append(job)
        return found

    def job(self, name: str) -> Job:
        """The one job of that name."""
        jobs = self.jobs()[name]
        assert len(jobs) == 1, jobs
        return jobs[0]

    def audit(self) -> None:
        """After the end of a story: the promises, from the events, the directories and what the nodes ran."""
        self.each_file_once()
        self.history_is_sound()
        self.runs_are_sound()
        self.ends_are_told()
        assert self.term is not None
        assert not self.term.state.jobs, self.term.state.jobs
        assert not self.term.state.held
        assert all(not slot.holders for node in self.term.state.nodes.values() for slot in node.gpus)
        assert not any(node.shares for node in self.term.state.nodes.values())
        assert os.listdir(self.spool.pending) == os.listdir(self.spool.running) == os.listdir(self.spool.requests) == []
        assert os.listdir(self.spool.claims) == [self.term.claims.folder]
        assert os.listdir(self.term.epoch.claims) == []
        for node in self.nodes.values():
            node.step()
            told = decode(Disk().read(self.spool.assigned(node.name)) or b"", Assigned, node.name)
            assert told.attempts == {}, told

    def history_is_sound(self) -> None:
        """Replayed from the beginning, the events can follow each other, and no moment breaks a promise."""
        state = State()
        accepted: list[str] = []
        for event in self.events():
            state.apply(event)
            if isinstance(event, Started):
                assert broken(state) == []
            if isinstance(event, Accepted):
                accepted.append(event.claim)
        assert len(set(accepted)) == len(accepted), f"accepted twice: {accepted}"

    def runs_are_sound(self) -> None:
        """Each attempt ran at most once on a node, and the text that ran is one that a user wrote (P4)."""
        for node in self.nodes.values():
            keys = [key for key, _ in node.ran]
            assert len(set(keys)) == len(keys), f"P4: {keys}"

    def ends_are_told(self) -> None:
        """Each job that ended has its line in done/, and its file there, unless its owner removed it (P6)."""
        assert self.term is not None
        told = self.told_in_done()
        names = {path.name for path in Path(self.spool.done).glob("*/*.yaml")}
        for job in self.term.state.ended.values():
            assert job.id in told and told[job.id].status is job.status, f"{job} has no line in done/"
            went_on = job.status is Status.CANCELLED and job.attempt  # changed after its start: a job of its own
            if label(job.file) not in self.deleted and not went_on:
                assert f"{job.file.removesuffix('.yaml')}.{job.status}.yaml" in names, f"{job}: {names}"


def _bytes(state: State) -> bytes:
    return encode(state.to_ledger("", "", (0, 0), 0, 0.0))


Story = Callable[[Stage], None]


def cuts(folder: Path, story: Story) -> Iterator[tuple[str, Stage]]:
    """A stage for each operation of the story's head, which is killed there; of an append, also within it."""
    untroubled = Mortal()
    story(Stage(folder / "untroubled", untroubled))
    assert len(untroubled.done) > 10
    for number, what in enumerate(untroubled.done, 1):
        for whole in (None, *range(untroubled.records.get(number, 0))):
            place = folder / f"{number}-{whole}"
            where = "before" if whole is None else f"within, after {whole} records,"
            yield f"killed {where} operation {number}: {what}", Stage(place, Mortal(number, whole))
            shutil.rmtree(place)


class Late:
    """A head in a thread of its own, paused before one operation of its disk until `go_on`."""

    def __init__(self) -> None:
        self.paused, self.free = threading.Event(), threading.Event()
        self.disk = Mortal(stop=self._pause)
        self.error: BaseException | None = None

    def _pause(self) -> None:
        self.paused.set()
        assert self.free.wait(20)

    def start(self, act: Callable[[], object], operation: int | None = None) -> bool:
        """Let it act until it comes to its n-th operation from now, or into the trap. False: it has ended without."""
        self.disk.at = len(self.disk.done) + operation if operation else None
        self.thread = threading.Thread(target=self._act, args=(act,), daemon=True)
        self.thread.start()
        assert self.paused.wait(20)
        return not self.free.is_set()

    def _act(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # told by `go_on`
            self.error = error
        if not self.paused.is_set():
            self.free.set()
            self.paused.set()

    def go_on(self) -> None:
        """Let it go on to its end: it finds itself deposed, or has nothing left to do."""
        self.free.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        if self.error is not None and not isinstance(self.error, Deposed | OSError):
            raise self.error

    @property
    def before(self) -> str:
        """The operation before which it was paused."""
        assert self.disk.at is not None
        return self.disk.done[self.disk.at - 1]
