"""A spool with a history, in five lines: real directories, real event files, no daemons.

scene = Scene(tmp_path)
scene.node("n1", "H100:4")
one = scene.started("huggingface", "H100:4", ago=600)
scene.ended(one)
scene.pending("job4", "H100:4")
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from spool_layout import leadership, settings
from spool_layout.events import Accepted, AnyEvent, Ended, Going, Lost, NodeChanged, Rejected, Started, Stopping
from spool_layout.paths import Spool, job_file, label
from spool_layout.records import WHOLE, Allocation, Demand, Gpu, HeadStatus, Leader, NodeStatus, Task, encode
from spool_layout.replay import State
from spool_layout.states import Status
from spool_layout.storage import Disk
from spool_layout.taskfile import parse_task
from spool_layout.users import user_name

USER = "user"


def demand(text: str, cpus: float = 0.5, memory: int = 0) -> Demand:
    """`H100:0.5`, or "" for a job without GPUs."""
    name, _, count = text.partition(":")
    return Demand(name, round(float(count or 1) * WHOLE) if name else 0, round(cpus * WHOLE), memory)


class Job(NamedTuple):
    """What the builder knows of a job that it made."""

    id: int
    task: Task
    attempt: int
    allocations: list[Allocation]


class Scene:
    """A spool whose events this writes itself, as a head would."""

    def __init__(self, root: Path, name: str = "mycluster") -> None:
        self.spool, self.disk = Spool(root / "spool"), Disk()
        for path in self.spool.directories:
            self.disk.make_dir(path)
        self.disk.publish(self.spool.settings, settings.first_text(name, False).encode())
        self.name, self.now, self.state = name, time.time(), State()
        epoch = leadership.take(self.spool, self.disk)
        assert epoch is not None
        self.epoch = epoch
        self.state = leadership.seal(epoch, Leader("h1", 7, self.now), self.now).state
        self.made: dict[int, Job] = {}

    def write(self, *events: AnyEvent) -> None:
        """Commit events."""
        self.epoch.append(list(events))
        for event in events:
            self.state.apply(event)

    def node(
        self, name: str, gpus: str = "", cpus: float = 8, memory_gb: int = 64, state: str = "up", left: bool = False
    ) -> None:
        """A node, as the head learnt of it. gpus: `H100:4`, or "" for none."""
        kind, _, count = gpus.partition(":")
        there = [Gpu(f"GPU-{name}-{i}", i, kind) for i in range(int(count or 1))] if kind else []
        self.write(
            NodeChanged(
                name=name,
                at=self.now - 3600,
                host=name,
                address=f"10.0.0.{len(self.state.nodes) + 1}",
                gpus=there,
                cpus_milli=round(cpus * WHOLE),
                memory_mb=memory_gb * 1024,
                state=state,
                left=left,
            )
        )

    def says(self, name: str, **words: Any) -> None:
        """What a node's runner writes of itself."""
        if not os.path.isdir(self.spool.node(name)):
            self.disk.make_dir(self.spool.node(name))
        told = NodeStatus(format=1, node=name, host=name, incarnation=1, beat=1, interval=1.0, **words)
        self.disk.publish(self.spool.status(name), encode(told))

    def pending(
        self,
        name: str,
        gpus: str = "",
        nodes: int = 1,
        ago: float = 600,
        user: str = USER,
        uid: int = -1,
        setup: bool = False,
        drop: str = "",
        cpus: float = 0.5,
        memory: int = 0,
    ) -> int:
        """A job that waits; its ID."""
        ident = self.state.next_id
        task = Task(num_nodes=nodes, demands=(demand(gpus, cpus, memory),), setup=setup)
        self.write(
            Accepted(
                id=ident,
                name=name,
                file=job_file(ident, name),
                drop=drop or f"{name}.yaml",
                uid=os.getuid() if uid < 0 else uid,
                user=user,
                inode=ident,
                digest="",
                task=task,
                submitted=self.now - ago,
                at=self.now - ago,
            )
        )
        self.made[ident] = Job(ident, task, 0, [])
        return ident

    def start(self, ident: int, ago: float = 540, pids: tuple[int, ...] = (), go: bool = True) -> int:
        """Grant slots to a job, GPU by GPU, and let it run (or set up). go: its processes are known at once."""
        job = self.made[ident]
        wanted = job.task.demands[0]
        allocations = self._allocate(job.task.num_nodes, wanted)
        self.write(Started(id=ident, attempt=job.attempt + 1, allocations=allocations, at=self.now - ago))
        self.made[ident] = job._replace(attempt=job.attempt + 1, allocations=allocations)
        if go and not job.task.setup:
            self.go(ident, ago, pids)
        return ident

    def _allocate(self, count: int, wanted: Demand) -> list[Allocation]:
        found = []
        for node in self.state.nodes.values():
            shares: dict[str, int] = {}
            for slot in node.gpus:
                missing = wanted.milli - sum(shares.values())
                if missing > 0 and slot.free >= min(missing, WHOLE):
                    shares[slot.gpu.uuid] = min(missing, WHOLE)
            if sum(shares.values()) == wanted.milli and len(found) < count:
                found.append(Allocation(node.name, shares, wanted.cpus_milli, wanted.memory_mb))
        assert len(found) == count, "the scene does not fit its nodes"
        return found

    def go(self, ident: int, ago: float = 540, pids: tuple[int, ...] = ()) -> None:
        """Run commands begin."""
        job = self.made[ident]
        told = list(pids) or [1000 * ident + rank for rank in range(job.task.num_nodes)]
        self.write(Going(id=ident, attempt=job.attempt, at=self.now - ago, start_at=self.now - ago, pids=told))

    def started(
        self,
        name: str,
        gpus: str = "",
        nodes: int = 1,
        ago: float = 600,
        user: str = USER,
        uid: int = -1,
        setup: bool = False,
    ) -> int:
        """A job that runs, or sets up; its ID."""
        return self.start(self.pending(name, gpus, nodes, ago, user, uid, setup), ago)

    def stopping(self, ident: int) -> None:
        """Its processes are being ended."""
        self.write(
            Stopping(
                id=ident, attempt=self.made[ident].attempt, status=Status.CANCELLED, reason="cancelled", at=self.now
            )
        )

    def ended(
        self,
        ident: int,
        status: Status = Status.SUCCEEDED,
        codes: tuple[int, ...] = (),
        ago: float = 60,
        reason: str = "",
    ) -> int:
        """A job is over."""
        job = self.made[ident]
        told = list(codes) or [0 if status is Status.SUCCEEDED else 1] * bool(job.attempt) * job.task.num_nodes
        self.write(
            Ended(
                id=ident,
                attempt=job.attempt,
                status=status,
                day="2026-11-23",
                at=self.now - ago,
                reason=reason,
                exit_codes=told,
                end_at=self.now - ago,
            )
        )
        return ident

    def lost(self, ident: int, again: bool = False) -> int:
        """Its node was lost: the job is FAILED (or waits again), its slots stay held."""
        job = self.made[ident]
        nodes = tuple(dict.fromkeys(allocation.node for allocation in job.allocations))
        self.write(
            Lost(
                id=ident,
                attempt=job.attempt,
                nodes=nodes,
                again=again,
                reason=f"lost contact with node {nodes[0]}",
                day="2026-11-23",
                at=self.now,
            )
        )
        return ident

    def left(self, drop: str, reason: str) -> None:
        """A file that the head cannot take and leaves in pending/."""
        me = os.getuid()
        self.write(Rejected(drop=drop, file="", uid=me, user=user_name(me), reason=reason, at=self.now))

    def rejected(self, drop: str, reason: str, ago: float = 60, user: str = USER) -> None:
        """A dropped file that was no task."""
        self.write(Rejected(drop=drop, file=drop, uid=os.getuid(), user=user, reason=reason, at=self.now - ago))

    def head(self, ago: float = 0, role: str = "leading", host: str = "h1", pid: int = 7, interval: float = 1) -> None:
        """A head's sign of life. ago: seconds; a file's change time cannot be set, so old means a short interval."""
        path = self.spool.head(f"{host}-{pid}")
        self.disk.publish(path, encode(HeadStatus(1, host, pid, role, self.epoch.number, self.now - 3600, interval)))

    def log(self, ident: int, file: str, text: bytes | str) -> Path:
        """What a rank printed. file: run.log, 0-n1.log …"""
        folder = Path(self.spool.log_dir(ident, max(1, self.made[ident].attempt)))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / file
        with path.open("ab") as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        return path

    def forget(self, ident: int) -> None:
        """Write a job into done/DAY and drop all of it from the ledger, as if it had ended long ago."""
        job = self.state.ended.pop(ident)
        day = self.spool.day(job.day)
        self.disk.make_dir(day)
        self.disk.add_lines(self.spool.outcomes(job.day, self.epoch.number), encode(job))
        version = (self.epoch.number, 1)
        ledger = self.state.to_ledger(self.name, "id", version, self.epoch.offset, self.now)
        self.disk.publish(self.spool.generation(*version), encode(ledger))
        self.disk.publish(self.spool.ledger, encode(ledger))

    def accepted(self, file: str) -> int:
        """Accept a file of pending/, as a head would; its ID."""
        path = self.spool.dropped(file)
        seen = self.disk.inspect(path, 1 << 20)
        spec = parse_task(seen.data, require_absolute_workdir=True)
        ident, name = self.state.next_id, spec.name or label(file)
        task = Task(num_nodes=spec.num_nodes, demands=spec.demands, setup=bool(spec.setup))
        self.write(
            Accepted(
                id=ident,
                name=name,
                file=job_file(ident, name),
                drop=file,
                uid=seen.uid,
                user=USER,
                inode=seen.inode,
                digest="",
                task=task,
                submitted=seen.changed,
                at=time.time(),
            )
        )
        self.disk.move(path, self.spool.dropped(job_file(ident, name)))
        self.made[ident] = Job(ident, task, 0, [])
        return ident

    def dropped(self, name: str, text: str = "run: hostname\n...\n") -> Path:
        """A file in pending/ that no head has seen."""
        path = Path(self.spool.dropped(name))
        path.write_text(text)
        return path

    def files(self, folder: str) -> list[str]:
        """The names in a directory of the spool, sorted."""
        return sorted(entry.name for entry in self.disk.list(os.path.join(self.spool.root, folder)))


class Head:
    """A head of a scene, in a thread: accepts what is dropped, and plays each job as it is told to.

    with Head(scene, prints="hello\\n", ends=Status.FAILED, codes=(3,)):
        sky("exec", "--", "hostname")
    """

    def __init__(
        self,
        scene: Scene,
        prints: str | None = None,
        ends: Status | None = None,
        codes: tuple[int, ...] = (),
        refuses: str = "",
    ) -> None:
        self.scene, self.prints, self.ends, self.codes, self.refuses = scene, prints, ends, codes, refuses
        self.over, self.seen = threading.Event(), set(scene.files("pending"))
        self.thread = threading.Thread(target=self._lead)

    def __enter__(self) -> Head:
        self.scene.head()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _lead(self) -> None:
        while not self.over.wait(0.005):
            for file in self.scene.files("pending"):
                if file not in self.seen and file not in self.scene.state.waiting:
                    self.seen.add(file)
                    self._take(file)

    def _take(self, file: str) -> None:
        if self.refuses:
            self.scene.rejected(file, self.refuses, ago=0)
            os.unlink(self.scene.spool.dropped(file))
            return
        ident = self.scene.accepted(file)
        if self.prints is not None or self.ends is not None:
            self.scene.start(ident, ago=0)
            self.scene.log(ident, "run.log", self.prints or "")
        if self.ends is not None:
            self.scene.ended(ident, self.ends, self.codes, ago=0)


def reference(root: Path) -> Scene:
    """The reference text's five jobs at the moment of its table."""
    scene = Scene(root)
    scene.node("n1", "H100:4")
    one = scene.started("huggingface", "H100:4", ago=660)
    scene.ended(one, ago=570)
    scene.start(scene.pending("job2", "H100:1"), 540)
    scene.start(scene.pending("job3", "H100:1"), 540)
    scene.pending("job4", "H100:4")
    scene.start(scene.pending("job5", "H100:2"), 600)
    return scene


__all__ = ["Head", "Scene", "demand", "reference"]
