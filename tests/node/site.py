"""One node without a head: a real spool directory, a real starter, real jobs.

assigned.json is written by hand, and the runner is driven pass by pass in the test's own process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from spool_layout import history, settings
from spool_layout.events import Sealed, encode_event
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import GONE, Assigned, Assignment, Leader, NodeStatus, Phase, decode, encode
from spool_layout.settings import DeclaredNode
from spool_layout.storage import Disk
from spoold.node import cgroups, containment, progress
from spoold.node.containment import Process
from spoold.node.runner import Runner
from spoold.node.workplace import Attempt, Workplace, is_alive, read, start_time

NODE = "n1"
SETTINGS = {
    "shell": "plain",
    "heartbeat": "0.5s",
    "grace": "1s",
    "node_timeout": "60s",
    "fence_margin": "5s",
}


class Site:
    """The node n1 of a spool. What is assigned to it is in `wanted`, and is written by `assign`."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder, self.spool, self.disk = folder, Spool(folder / "spool"), Disk()
        for directory in (*self.spool.directories, self.spool.node(NODE)):
            self.disk.make_dir(directory)
        chosen = {**SETTINGS, **more}
        first = settings.first_text("mycluster", False).splitlines(True)
        said = [line for line in first if line.split(":")[0] not in chosen]
        said += [f"{key}: {value}\n" for key, value in chosen.items()]
        Path(self.spool.settings).write_text("".join(said))
        self.id = settings.load(self.spool, self.disk).id
        self.state = folder / "state"
        self.place = Workplace(str(self.state / self.id / f"node-{NODE}"))
        self.wanted: dict[str, Assignment] = {}
        self.version = (1, 0)
        self.runner: Runner | None = None

    # ---- the runner

    def start(self, *, once: bool = False, state: Path | None = None) -> Runner:
        """A runner, not yet at its first pass."""
        self.runner = Runner(
            self.spool.root,
            DeclaredNode("H100:4", 8.0, 64.0, "127.0.0.1"),
            once=once,
            name=NODE,
            state=str(state or self.state),
        )
        return self.runner

    def kill(self) -> None:
        """As kill -9 ends a runner: nothing is said, its locks are free. Starter and jobs are not touched."""
        runner, self.runner = self.runner, None
        assert runner is not None
        runner.flusher.follow(frozenset())  # its thread would go on, in later tests over what stands for `os` there
        end = time.monotonic() + 10
        while runner.flusher._open:
            assert time.monotonic() < end
            time.sleep(0.001)
        for descriptor in (runner.lock, runner.bell, runner.starters.orders, runner.kept):
            os.close(descriptor)
        runner.waker.close()

    def leave(self) -> None:
        """As SIGTERM ends a runner."""
        assert self.runner is not None
        self.runner.leave()
        self.kill()

    def step(self) -> NodeStatus:
        """One pass; what status.json says after it."""
        assert self.runner is not None
        self.runner.step()
        return self.status()

    def until(self, holds: Callable[[], object], seconds: float = 10) -> None:
        """Pass after pass (where a runner lives) until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.story()
            if self.runner is not None:
                self.runner.step()
            time.sleep(0.02)

    # ---- what the head would write

    def task(self, ident: int, text: str, attempt: int = 1, **more: object) -> str:
        """A started job's file, and its assignment from the next `assign` on. Its key."""
        file = f"{ident}.job.yaml"
        Path(self.spool.started(file)).write_text(text)
        fields: dict[str, object] = {
            "id": ident,
            "attempt": attempt,
            "want": "run",
            "file": file,
            "digest": history.digest(text.encode()),
            "name": "job",
            "user": "me",
            "uid": os.getuid(),
            "rank": 0,
            "nodes": [NODE],
            "addresses": ["127.0.0.1"],
            "gpus": [],
            "milli": 0,
            "cpus_milli": 500,
            "memory_mb": 0,
            "go": True,
            "task_id": "sky-task",
            "granted": time.time(),
        }
        key = f"{ident}.{attempt}"
        self.wanted[key] = Assignment(**{**fields, **more})  # type: ignore[arg-type]
        return key

    def change(self, key: str, **fields: object) -> None:
        """Change what is wanted of an attempt: want="stop", go=True."""
        self.wanted[key] = msgspec.structs.replace(self.wanted[key], **fields)

    def assign(self, version: tuple[int, int] | None = None, incarnation: int | None = None) -> tuple[int, int]:
        """Write assigned.json: of the next version, addressed to the incarnation that status.json names."""
        self.version = (self.version[0], self.version[1] + 1)
        said = Assigned(
            FORMAT,
            "mycluster",
            version or self.version,
            self.status().incarnation if incarnation is None else incarnation,
            dict(self.wanted),
        )
        epoch = max(self.status().seen[0], said.version[0])  # a deposed head's version is of one that is listed as well
        self.disk.publish_new(self.spool.events_of(epoch), encode_event(Sealed(epoch, {}, (0, 0), Leader(), 1.0)))
        self.disk.publish(self.spool.assigned(NODE), encode(said))
        return said.version

    # ---- look

    def status(self) -> NodeStatus:
        """status.json."""
        path = self.spool.status(NODE)
        data = self.disk.read(path)
        assert data is not None
        return decode(data, NodeStatus, path)

    def phase(self, key: str) -> str:
        """Where status.json says that an attempt stands; "" where it is not mentioned."""
        phase = self.status().attempts.get(key)
        return phase.phase if phase else ""

    def ended(self, key: str) -> Phase:
        """Wait until an attempt is reported gone; how it ended."""
        self.until(lambda: self.phase(key) in GONE)
        return self.status().attempts[key]

    def attempt(self, key: str) -> Attempt:
        """An attempt's local directory."""
        return self.place.attempt(key)

    def supervisor(self, key: str) -> int:
        """The pid of an attempt's supervisor, which lives."""
        found = progress.supervisor(self.attempt(key))
        assert found is not None
        return found.pid

    def log(self, ident: int, file: str = "run.log") -> str:
        """What a job wrote."""
        return Path(self.spool.log_dir(ident), file).read_text()

    def story(self) -> str:
        """Everything that helps to understand a failure."""
        told = [str(self.status())] if self.disk.read(self.spool.status(NODE)) else []
        for key in self.place.remembered():
            told.append(f"{key}: {sorted(self.attempt(key).names())}")
        return "\n".join(told)

    # ---- the local clockwork

    def age(self, seconds: float) -> None:
        """Let the runner's last renewal be so much older than it is."""
        path = Path(self.place.path, "renewed")
        noted = json.loads(path.read_text())
        path.write_text(json.dumps({**noted, "at": noted["at"] - seconds}))
        if self.runner is not None and self.runner.renewed is not None:
            self.runner.renewed -= seconds

    def reboot(self) -> None:
        """What a reboot does to a node without a runner: no process lives, and what is noted is of another boot."""
        assert self.runner is None
        self.end_processes()
        for path in (Path(self.place.path, "renewed"), *Path(self.place.attempts).glob("*/marker")):
            path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "the boot before"}))
        told = msgspec.structs.replace(self.status(), boot="the boot before")
        self.disk.publish(self.spool.status(NODE), encode(told))

    def starter(self) -> int:
        """The starter's pid, as its lock file names it."""
        return int(json.loads(Path(self.place.path, "starter.lock").read_text())["pid"])

    def end_processes(self) -> None:
        """Kill starters, supervisors and jobs."""
        end_all(self.place)

    def close(self) -> None:
        """End everything."""
        if self.runner is not None:
            self.kill()
        self.end_processes()


def end_all(place: Workplace) -> None:
    """Kill every process of a workplace, and wait until none is left."""
    end = time.monotonic() + 10
    for process in living(place):
        if place.path in words_of(process.pid):
            containment.signal_process(process, signal.SIGSTOP)  # else it could still say how its job was killed
    for group in cgroups.here().groups(place.path).values():
        group.kill()
    while left := living(place):
        assert time.monotonic() < end, left
        for process in left:
            containment.signal_process(process, signal.SIGKILL)
        time.sleep(0.01)
    for group in cgroups.here().groups(place.path).values():
        group.remove()


def living(place: Workplace) -> list[Process]:
    """Starters and supervisors have the directory in their command line, jobs in their environment; what hides stands
    below a supervisor."""
    found: list[Process] = []
    for pid in containment.all_pids():
        start = start_time(pid)
        if start is None or not is_alive(pid, start) or pid == os.getpid():
            continue
        if place.path in words_of(pid):
            found += [*containment.below(pid), Process(pid, start)]
        elif place.attempts.encode() in environ(pid):
            found.append(Process(pid, start))
    return found


def words_of(pid: int) -> list[str]:
    """The command line of a process."""
    return (read(f"/proc/{pid}/cmdline") or "").split("\0")


def environ(pid: int) -> bytes:
    """The environment that a process was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def kill(pid: int) -> None:
    """kill -9 of one process, and wait until it is no more than a zombie."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while (fields := containment.stat_fields(pid)) and fields[0] not in "ZX":
        assert time.monotonic() < end
        time.sleep(0.005)


@contextlib.contextmanager
def running(folder: Path, **more: str) -> Iterator[Site]:
    """A site that is cleared away with the test."""
    site = Site(folder, **more)
    try:
        yield site
    finally:
        site.close()
