"""A node of a Scene that is real: runner, starter, supervisors and jobs. Its passes are acts where a story says so.

Starters are forks of this process instead of new interpreters, which makes them cheap; all else is as on a node. This
process adopts what loses its parents, so that whatever a story leaves is found below it and ended.

Jobs write to a file of their own in `proofs` when they begin and when they end. A job whose name begins with `hold`
goes on until the story lets it end. While an act is under way no job heeds SIGTERM and no starter begins to work, since
each run has to make the same calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from spool_layout.events import Started
from spool_layout.records import GONE, NodeStatus, Phase, decode, encode
from spool_layout.settings import DeclaredNode
from spool_layout.storage import Disk
from spoold.node import cgroups, containers, containment, progress, spawning, starter, supervisor
from spoold.node.runner import Runner
from spoold.node.workplace import Attempt, Workplace, read
from tests.faults import brief, tracing
from tests.faults.chance import chance
from tests.faults.killing import SETTINGS, Scene
from tests.faults.tracing import Act
from tests.head.stage import Killed

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
NODE = "n1"
PATIENCE = 20.0  # seconds
DRIVER = os.getpid()


class Gate:
    """A FIFO: whoever reads a line from it waits while it is shut, at no cost."""

    CROWD = 64  # that may pass while it is open

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_open = False

    def open(self) -> None:
        if not self.is_open:
            os.write(self.descriptor, b"\n" * self.CROWD)
        self.is_open = True

    def shut(self) -> None:
        os.read(self.descriptor, 2 * self.CROWD)
        self.is_open = False

    def close(self) -> None:
        os.close(self.descriptor)


class RealNode:
    """The node n1 of a scene, with two GPUs."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.name = scene, NODE
        self.proofs = scene.folder.parent / "proofs"
        self.state = scene.folder / "state"
        self.place = Workplace(str(self.state / SETTINGS.id / f"node-{NODE}"))
        self.runner: Runner | None = None
        self.over: set[str] = set()
        self.lock: int | None = None  # a starter's, where we are in its place
        self.gone: set[str] = set()
        self.gates: dict[str, Gate] = {}  # jobs that hold, and "may-die": who was asked to
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        spawning.spawn = fork_starter
        containers.installed = lambda: iter(())  # no story has containers, and to ask an engine takes seconds
        scene.close = self.close
        self.close()
        for old in [*self.proofs.glob("*")]:
            old.unlink()
        self.proofs.mkdir(exist_ok=True)
        self.gates = {"may-die": Gate(self.proofs / "may-die")}
        self.gates["may-die"].open()
        # A real runner in place of the stage's simulated node: the stories treat both alike.
        scene.nodes[NODE] = self  # type: ignore[assignment]
        scene.run = self.run  # type: ignore[method-assign]

    # ---- the runner

    def start(self) -> None:
        """A runner and its first pass."""
        self.runner = Runner(
            self.scene.spool.root,
            DeclaredNode("H100:2", 8.0, 64.0, "127.0.0.1"),
            name=NODE,
            state=str(self.state),
        )
        self.runner.step()

    def kill(self) -> None:
        """As kill -9 ends a runner."""
        runner, self.runner = self.runner, None
        if runner is not None:
            for descriptor in (runner.lock, runner.bell, runner.starters.orders, runner.kept):
                os.close(descriptor)
            runner.waker.close()

    def act(self, act: Act) -> None:
        """Something that the runner does, as an act. Killed, another runner starts."""
        self.gates["may-die"].shut()
        try:
            self.scene.act(act)
            self.see_gone()
        except Killed:
            self.scene.killed += 1
            self.see_gone()
            self.kill()
            self.start()
            self.see_gone()
        finally:
            self.gates["may-die"].open()

    def act_pass(self) -> None:
        """One pass, as an act."""
        assert self.runner is not None
        self.act(self.runner.step)

    def step(self) -> None:
        """One pass, unhurt."""
        assert self.runner is not None
        for name in self.over:
            self.let_end(name)
        self.runner.step()
        self.see_gone()

    def see_gone(self) -> None:
        """Of what is reported as gone no process lives."""
        if not os.path.exists(self.scene.spool.status(NODE)):
            return
        for key in {key for key, phase in self.phases.items() if phase.phase in GONE} - self.gone:
            place = self.place.attempt(key).path
            left = [process for process in containment.below(os.getpid()) if containment.marked(process.pid, place)]
            assert left == [], f"{key} is reported as gone, and {left} live"
            self.gone.add(key)

    def drop(self, name: str, *, setup: bool = False, gpu: bool = False, leave: bool = False) -> None:
        """A user drops a task. leave: it leaves a process behind for a moment."""
        self.gates[name] = Gate(self.proofs / name)
        hold = f"read -r _ < {self.proofs}/{name}" if name.startswith("hold") else ":"
        heed = f"trap 'read -r _ < {self.proofs}/may-die; exit 143' TERM"
        proof = f"me={self.proofs}/$SKYSPOOL_ATTEMPT-$$"
        lines = [proof, heed, "echo began > $me", ": NAME", hold, "echo ended >> $me"]
        if leave:
            lines.append("sleep 0.05 &")
        head = ("resources: {accelerators: H100:1}\n" if gpu else "") + ("setup: echo set up\n" if setup else "")
        self.scene.drop(name, head + "run: |\n" + "".join(f"  {line}\n" for line in lines) + "...\n")

    def let_end(self, name: str) -> None:
        """A job that holds may end."""
        self.gates[name].open()

    def age(self, seconds: float) -> None:
        """Let the runner's last renewal be so much older than it is."""
        assert self.runner is not None and self.runner.renewed is not None
        self._change(Path(self.place.path, "renewed"), lambda noted: {"at": noted["at"] - seconds})
        self.runner.renewed -= seconds

    def reboot(self) -> None:
        """No process lives, and what was noted is of another boot."""
        self.kill()
        end_all()
        for path in (Path(self.place.path, "renewed"), *Path(self.place.attempts).glob("*/marker")):
            self._change(path, lambda _: {"boot": "the boot before"})
        told = msgspec.structs.replace(self.status, boot="the boot before")
        Disk().publish(self.scene.spool.status(NODE), encode(told))

    def _change(self, path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        noted = json.loads(path.read_text())
        path.write_text(json.dumps({**noted, **change(noted)}))

    # ---- starters and supervisors

    @contextlib.contextmanager
    def deaf_starter(self) -> Iterator[None]:
        """For a while orders are written for a starter that lives, and nobody reads them."""
        if self.place.has_starter():
            kill(int(json.loads(Path(self.place.path, "starter.lock").read_text())["pid"]))
        self.lock = self.place.lock_starter()
        assert self.lock is not None
        yield
        os.close(self.lock)
        self.lock = None

    def order(self, name: str, **task: bool) -> str:
        """A job that was just ordered, and which nobody has begun. Its key."""
        self.drop(name, **task)
        self.scene.look()
        self.step()
        key = self.attempt(name).key
        assert self.phases[key].phase == "starting"
        return key

    def act_starter(self) -> None:
        """A starter that looks at the orders which are there, then ends, as an act."""

        def live() -> None:
            self._leave_behind()
            brief.live(self.place.path)

        self._process(tracing.forked(lambda: (chance.begin("act"), live())))

    def act_supervisor(self, key: str, *more: str, short: float = PATIENCE) -> None:
        """A supervisor's life, as an act. more: attempts that are there for it when its own is over; short: supervisor.
        SHORT, by default so long that it waits for the end of its job and not for less."""
        self._process(tracing.forked(lambda: (chance.begin("act"), self._supervise(key, *more, short=short))))

    def hold_back(self, key: str) -> None:
        """Let an attempt that was ordered wait for `go` when its setup is over, as the ranks of a gang do."""
        self._change(Path(self.place.attempt(key).file("order.json")), lambda _: {"go": None})

    @contextlib.contextmanager
    def cancelled_meanwhile(self, key: str, stage: str) -> Iterator[None]:
        """What the runner does to end an attempt is done in a fork, when this stage's work is over and its supervisor
        waits: stop it; and kill it when that was heeded. It sees none of the attempt's processes, as if these always
        ran ahead of it: so the supervisor is the one that kills, and makes the same calls each time."""
        if (pid := os.fork()) == 0:
            try:
                self._cancel(self.place.attempt(key), stage)
            finally:
                os._exit(0)
        try:
            yield
        finally:
            kill(pid)

    def _cancel(self, attempt: Attempt, stage: str) -> None:
        chance.begin("cancel")
        progress.processes, progress.group = lambda attempt: [], lambda attempt: cgroups.Group()
        self.until(lambda: attempt.has("setup.exit") if stage == "setup" else attempt.key in dict(self.ran))
        for grace in (SETTINGS.grace, 0.0):
            self.until(lambda: (found := progress.supervisor(attempt)) and is_waiting(found.pid))
            progress.Ending(grace).step(attempt)
        end = time.monotonic() + PATIENCE
        while (found := progress.supervisor(attempt)) is not None:
            time.sleep(0.1)  # as a runner pauses between two passes: nobody tells it that a supervisor has ended
            if self.scene.failing:
                progress.Ending(0.0).step(attempt)
            if time.monotonic() > end:  # it never heeds that
                os.kill(found.pid, signal.SIGKILL)

    def act_job(self, key: str, stage: int) -> None:
        """The life of a supervisor's first or second child, as an act: turning into the job, and the job's bash."""
        self._process(lambda: held_child(lambda: self._supervise(key), stage))
        self.until(lambda: progress.supervisor(self.place.attempt(key)) is None)

    def _supervise(self, key: str, *more: str, short: float = PATIENCE) -> None:
        assert self.runner is not None
        bell = os.dup(self.runner.bell)
        self._leave_behind()
        supervisor.SHORT, supervisor.LOOK = short, supervisor.LOOK if self.scene.failing else PATIENCE
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for other in (*more, ""):
            ours.send(other.encode())
        supervisor.supervise(self.place, key, bell, theirs)

    def _leave_behind(self) -> None:
        """In a fork: what is the runner's, and ours in a starter's place."""
        assert self.runner is not None
        for descriptor in (self.runner.lock, self.runner.kept, self.runner.starters.orders):
            os.close(descriptor)
        if self.lock is not None:
            os.close(self.lock)

    def _process(self, start: tracing.Start) -> None:
        try:
            self.scene.process(start)
        except Killed:
            self.scene.killed += 1

    # ---- looking

    @property
    def status(self) -> NodeStatus:
        """status.json."""
        return decode(Disk().read(self.scene.spool.status(NODE)) or b"", NodeStatus, NODE)

    @property
    def phases(self) -> dict[str, Phase]:
        """What it says of attempts."""
        return self.status.attempts

    @property
    def ran(self) -> list[tuple[str, str]]:
        """(attempt, what it wrote) of each process that ran as an attempt."""
        return [(path.name.partition("-")[0], path.read_text()) for path in self.proofs.glob("*.*-*")]

    def attempt(self, name: str) -> Attempt:
        """The first attempt of a job."""
        return self.place.attempt(f"{self.scene.job(name).id}.1")

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that others do."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.story()
            time.sleep(0.002)  # what is waited for are files and ends of processes: nothing tells of all of them

    def story(self) -> str:
        """What helps to understand a failure."""
        told = [f"{key}: {sorted(self.place.attempt(key).names())}" for key in self.place.remembered()]
        return "\n".join([str(self.status), *told, str(self.ran)])

    def run(self) -> None:
        """Head and node until nothing moves any more but what holds."""
        end = time.monotonic() + PATIENCE
        before = b""
        while self._moves() or before != self.scene._shown():
            assert time.monotonic() < end, self.story()
            before = self.scene._shown()
            self.scene.look()
            self.step()
            if self._moves():  # supervisors and jobs go on by themselves: most of it they tell
                select.select([self.runner.bell], [], [], 0.01)
                starter.drain(self.runner.bell)

    def _moves(self) -> bool:
        return any(phase.phase not in GONE and not self._holds(key, phase) for key, phase in self.phases.items())

    def _holds(self, key: str, phase: Phase) -> bool:
        """Whether an attempt runs on until the story lets it end."""
        assert self.runner is not None
        order = self.runner.assigned.attempts.get(key)
        if order is None or order.want == "stop" or phase.phase != "running" or order.name in self.over:
            return False
        return order.name.startswith("hold") and key in dict(self.ran)

    # ---- the end

    def check(self) -> None:
        """What the jobs wrote fits what the events say of them."""
        wrote = {key: text.split() for key, text in self.ran}
        for job in (job for jobs in self.scene.jobs().values() for job in jobs):
            words = wrote.get(f"{job.id}.{job.attempt}", [])
            if job.status == "SUCCEEDED":
                assert words == ["began", "ended"], f"{job} says it succeeded, and wrote {words}"
            assert job.attempt or not words, f"{job} never started, and wrote {words}"
        starts = {f"{event.id}.{event.attempt}" for event in self.scene.events() if isinstance(event, Started)}
        assert wrote.keys() <= starts, f"{wrote} ran, and only {starts} were started"

    def close(self) -> None:
        """End everything."""
        self.kill()
        end_all()
        for gate in self.gates.values():
            gate.close()
        for group in cgroups.here().groups(self.place.path).values():
            group.remove()


# ---- processes


def fork_starter(place: Workplace) -> None:
    """Instead of spawning.spawn: the same without a new interpreter."""
    with open(os.path.join(place.path, "starter.log"), "ab"):
        pass
    parent = os.getpid()
    if os.fork() == 0:
        while parent != DRIVER and os.getppid() == parent:
            time.sleep(0.001)  # until a killed act's process is gone, whose end nobody tells its child
        become_starter(place)


def become_starter(place: Workplace) -> None:
    """In a fork: be a starter until the end. Never returns."""
    try:
        os.setsid()
        os.closerange(3, 1024)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        starter.main(place.path)
    finally:
        os._exit(0)


def held_child(act: Act, number: int) -> tuple[int, int]:
    """A fork that carries out `act`, and whose own fork of this number waits: that one's pid, and the pipe for it."""
    begin, go = os.pipe()
    ready, say = os.pipe()
    if os.fork() == 0:
        os.close(go)
        os.close(ready)
        _hold_child(number, say, begin)
        try:
            act()
        finally:
            os._exit(0)
    os.close(begin)
    os.close(say)
    pid = int(os.read(ready, 32))
    os.close(ready)
    return pid, go


def _hold_child(number: int, say: int, begin: int) -> None:
    numbers = itertools.count(1)

    def held(fork: Callable[..., int], *into: str) -> int:
        is_it = next(numbers) == number
        pid = fork(*into)
        if pid == 0 and is_it:
            tracing.be_traceable()
            os.write(say, str(os.getpid()).encode())
            select.select([begin], [], [])
            chance.begin("act")
        return pid

    os.fork, cgroups.fork_into = partial(held, os.fork), partial(held, cgroups.fork_into)


def is_waiting(pid: int) -> bool:
    """Whether a process sleeps, and has heeded what it was told by a signal."""
    text = read(f"/proc/{pid}/status") or ""
    found = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return bool(found) and found["State"].startswith("S") and not int(found["ShdPnd"], 16)


def kill(pid: int) -> None:
    """kill -9 of a process of the node."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def end_all() -> None:
    """Kill every process below this one, until none is left."""
    end = time.monotonic() + PATIENCE
    while left := containment.below(os.getpid()):
        assert time.monotonic() < end, left
        for process in left:
            containment.signal_process(process, signal.SIGKILL)
        reap()
        time.sleep(0.001)  # the kernel takes a moment to end them, and grandchildren come to us only then
    reap()


def reap() -> None:
    """Children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
