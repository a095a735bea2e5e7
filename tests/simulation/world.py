"""Virtual time, and the processes that live in it: each a greenlet that is switched at its calls to disk and clock.

The world runs one process at a time, until that sleeps or its call takes time; who goes on next is the one whose time
comes first. Nothing here knows the real time, real pids or the order of hashes: a seed and a plan make one run.

A process that is killed never gets further than its next call: whatever it still wants to do on its way out (`finally`)
is refused. One that is stopped, or whose host sleeps, goes on when that is over. `fuse` kills or stops it at its n-th
call from now on, so that a cut falls between two calls that follow each other at once.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from tests.simulation.hosts import Host

STORY = 4000  # lines that are kept of what happened


class Killed(BaseException):
    """kill -9, or the host's end. Nothing catches it for good."""


class Process:
    """A process of a host. fiber: None for a job's, which is only looked at."""

    def __init__(self, world: World, host: Host, name: str, main: Callable[[], object] | None) -> None:
        self.world, self.host, self.name = world, host, name
        self.pid = host.next_pid()
        self.start = int(host.boottime() * 100)
        self.alive, self.waiting = True, False
        self.subreaper = self.dies_with_parent = False
        self.parent: Process | None = None
        self.children: list[Process] = []
        self.status = 0  # as wait(2) tells it, once it is dead
        self.reaped = False
        self.stopped_until = 0.0
        self.token = 0  # of the wake-up that is waited for; others are stale
        self.fuse = 0  # calls until `blow` is called; 0: never
        self.blow: Callable[[], None] = lambda: None
        self.signals: list[int] = []
        self.handlers: dict[int, Callable[..., object]] = {}
        self.on_fork: Callable[[], Process] | None = None
        self.files: dict[int, Any] = {}  # descriptor -> open file
        self.flying: Callable[[], object] | None = None  # a request that may reach the server without its sender
        self.rng = random.Random(f"{world.seed} {name} {self.pid}")
        self.command: tuple[str, ...] = (name,)  # as ps shows it
        self.environ: tuple[str, ...] = ()
        self.main = main
        self.fiber = greenlet(self._run, world.hub) if main else None
        host.processes[self.pid] = self

    def _run(self) -> None:
        try:
            assert self.main is not None
            self.main()
            self.world.note(f"{self.name} ends")
        except Killed:
            pass
        except Exception as error:
            self.world.crashed(self, error)
        finally:
            self.alive = False
        self.host.ended(self)

    # ---- what it does itself

    def step(self) -> None:
        """A call begins: dead processes make none."""
        if not self.alive:
            raise Killed
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                self.blow()
                if not self.alive:
                    raise Killed
                if self.stopped_until > self.world.now:
                    self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        """Let time pass, by the true clock."""
        world = self.world
        self.token += 1
        world.push(world.now + seconds, self)
        world.hub.switch()
        self.go_on()

    def go_on(self) -> None:
        """After a switch back: die, or heed signals."""
        if not self.alive:
            raise Killed
        if self.signals:
            for number in [number for number in self.signals if number in self.handlers]:
                self.signals.remove(number)
                self.handlers[number](number, None)

    def wait(self, seconds: float) -> None:
        """Sleep until woken, or so long."""
        self.waiting = True
        try:
            self.sleep(seconds)
        finally:
            self.waiting = False


class World:
    """Time, the processes' turns, and the story of a run."""

    def __init__(self, seed: object) -> None:
        self.seed = seed
        self.now = 0.0
        self.hub: greenlet = getcurrent()
        self.current: Process | None = None
        self.rng = random.Random(f"{seed} world")
        self._heap: list[tuple[float, int, Any, int]] = []
        self._count = 0
        self.story: deque[str] = deque(maxlen=STORY)
        self.faults: list[str] = []  # what must not be
        self.calls = 0
        self.mark = 0  # a check sum of the whole story: two runs that have the same are the same

    # ---- telling

    def note(self, text: str) -> None:
        """A line of the story."""
        line = f"{clock(self.now)} {text}"
        self.story.append(line)
        self.mark = zlib.crc32(line.encode("utf-8", "replace"), self.mark)

    def fault(self, text: str) -> None:
        """Something that must not be."""
        self.note(f"FAULT {text}")
        self.faults.append(text)

    def crashed(self, process: Process, error: Exception) -> None:
        """A process ends with an exception that it did not catch; its host tells what that means."""
        self.note(f"{process.name} ends: {type(error).__name__}: {error}")
        process.host.failed(process, error)

    # ---- time

    def push(self, at: float, process: Process) -> None:
        """Its turn comes then."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, process, process.token))

    def call_at(self, at: float, action: Callable[[], object]) -> None:
        """Something happens then."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, action, -1))

    def pass_time(self, seconds: float) -> None:
        """The current process's call takes so long. Others have their turns meanwhile, if any are due."""
        due = self.now + seconds
        process = self.current
        assert process is not None
        if self._heap and self._heap[0][0] <= due:
            process.sleep(seconds)
        else:
            self.now = due

    def wake(self, process: Process) -> None:
        """It need not wait any longer."""
        if process.alive and process.waiting:
            process.waiting = False
            process.token += 1
            self.push(self.now, process)

    def spawn(self, process: Process, delay: float = 0.0) -> Process:
        """Its first turn."""
        process.token += 1
        self.push(self.now + delay, process)
        return process

    def run(self, until: float) -> None:
        """Everything up to a moment, or to the first fault."""
        heap = self._heap
        while heap and heap[0][0] <= until and not self.faults:
            at, _, what, token = heapq.heappop(heap)
            if at > self.now:
                self.now = at
            if token < 0:
                what()
            elif what.token == token:
                self._turn(what)
        self.now = max(self.now, until)

    def _turn(self, process: Process) -> None:
        held = max(process.stopped_until, process.host.asleep_until)
        if process.alive and held > self.now:
            self.push(held, process)
            return
        self.current = process
        assert process.fiber is not None
        process.fiber.switch()
        self.current = None

    def end(self, process: Process, status: int = 9) -> None:
        """kill -9 of any process, its own caller too (whose next call raises Killed)."""
        if not process.alive:
            return
        process.alive, process.status = False, status
        process.host.ended(process)
        if process.fiber is not None and process is not self.current:
            process.token += 1
            self.push(self.now, process)  # it unwinds in its next turn


def clock(now: float) -> str:
    """A moment of the run: DAY HH:MM:SS.mmm."""
    day, rest = divmod(now, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{int(day)}d {int(hours):02}:{int(minutes):02}:{seconds:06.3f}"
