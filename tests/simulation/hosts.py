"""A host: its clocks, its disk, its mount, and its processes, which die with it; daemons are started again."""

from __future__ import annotations

import random
import signal
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.client import Client
from tests.simulation.local import LocalDisk
from tests.simulation.server import BASE, Server
from tests.simulation.world import Process, World

if TYPE_CHECKING:
    from tests.simulation.jobs import Run

AGAIN = 60.0  # seconds after which a daemon that ended is started again


class Daemon:
    """What the host's service manager keeps running. wanted: whether it is to run now."""

    def __init__(self, name: str, host: Host, main: Callable[[], object]) -> None:
        self.name, self.host, self.main = name, host, main
        self.wanted = True
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, if it should run and does not."""
        world = self.host.world
        if self.wanted and self.host.up and (self.process is None or not self.process.alive):
            self.process = Process(world, self.host, self.name, self.main)
            world.spawn(self.process, self.process.rng.random())

    def leave(self) -> None:
        """SIGTERM, and no new start."""
        self.wanted = False
        if self.process is not None and self.process.alive:
            self.host.signal(self.process, signal.SIGTERM)

    def come_back(self) -> None:
        """It is to run again."""
        self.wanted = True
        self.start()


class Host:
    """One machine. skew: of its wall clock, seconds; rate: of its clocks, 1.0 is right."""

    def __init__(self, world: World, name: str, server: Server, cached: float, version: int) -> None:
        self.world, self.name, self.uid = world, name, 4242
        self.rng = random.Random(f"{world.seed} host {name}")
        self.skew = self.rng.choice((0.0, self.rng.uniform(-3600, 3600)))
        self.rate = 1 + self.rng.uniform(-2e-4, 2e-4)
        self.up, self.boots = True, 0
        self.processes: dict[int, Process] = {}
        self._pids = 100
        self.asleep_until, self.slept = 0.0, 0.0
        self.awake_since = -1e9  # when it woke from its last sleep
        self._booted(first=True)
        self.disk = LocalDisk(lambda: world.now)
        self.client = Client(self, server, cached, version)
        self.daemons: list[Daemon] = []
        self.listeners: dict[str, list[Callable[[], None]]] = {}  # FIFO -> who is told of a write
        self.runs: list[Run] = []

    def _booted(self, first: bool = False) -> None:
        self.boots += 1
        self.boot = f"boot-{self.name}-{self.boots}"
        self.boot_at = self.world.now - (self.rng.uniform(100, 1e6) if first else 5.0)
        self.slept = 0.0

    def next_pid(self) -> int:
        """Numbers are given again after a while, as by any kernel."""
        self._pids += 1
        if self._pids > 400:
            self._pids = 101
        while self._pids in self.processes and not self.processes[self._pids].reaped:
            self._pids += 1
        return self._pids

    # ---- clocks

    def boottime(self) -> float:
        """CLOCK_BOOTTIME."""
        return (self.world.now - self.boot_at) * self.rate

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: stands still while the host sleeps."""
        return (self.world.now - self.boot_at - self.slept) * self.rate

    def wall(self) -> float:
        """time.time(): whatever somebody set it to."""
        return BASE + self.world.now + self.skew

    # ---- processes

    def signal(self, process: Process, number: int) -> None:
        """kill(2)."""
        if number == signal.SIGKILL:
            self.world.end(process)
        elif process.alive:
            process.signals.append(number)
            self.world.wake(process)

    def ended(self, process: Process) -> None:
        """A process is over: its files are closed, its children are its heir's, its parent is told."""
        if self.processes.get(process.pid) is not process or process.reaped:
            return
        request, process.flying = process.flying, None
        if request is not None and process.rng.random() < 0.5:
            self.world.call_at(self.world.now + 3 * process.rng.random(), lambda: _late(request))
        for file in process.files.values():
            file.abandon(1.0 if self.up else process.rng.choice((0.0, 1.0, process.rng.random())))
        process.files = {}
        heir = _reaper_above(process)
        for child in process.children:
            self._inherit(child, heir)
        process.children = []
        if process.parent is not None and process.parent.alive:
            self.signal(process.parent, signal.SIGCHLD)
        else:
            process.reaped = True
            self.processes.pop(process.pid, None)
        self._start_again(process)

    def _inherit(self, child: Process, heir: Process | None) -> None:
        child.parent = heir
        if child.dies_with_parent:
            self.world.end(child)
        elif heir is not None:
            heir.children.append(child)
        elif not child.alive:
            child.reaped = True
            self.processes.pop(child.pid, None)

    def _start_again(self, process: Process) -> None:
        for daemon in self.daemons:
            if daemon.process is process:
                self.world.call_at(self.world.now + AGAIN * (0.5 + self.rng.random()), daemon.start)

    def failed(self, process: Process, error: Exception) -> None:
        """A daemon ended with an error: which ones must not be?"""
        from spool_layout.errors import Damaged, SpoolError

        if isinstance(error, Damaged) or not isinstance(error, SpoolError | OSError):
            where = "".join(traceback.format_exception(error)[-6:])
            self.world.fault(f"{process.name} gave up: {type(error).__name__}: {error}\n{where}")

    # ---- what happens to it

    def ring(self, path: str) -> None:
        """Somebody wrote to a FIFO."""
        for listener in self.listeners.get(path, ()):
            listener()

    def crash(self, kept: str, seconds: float) -> None:
        """Power is lost; it boots after a while. kept: of its disk, see LocalDisk.lose_power."""
        if not self.up:
            return
        self.world.note(f"host {self.name} loses power for {seconds:.0f} s, its disk keeps {kept}")
        self.up = False
        for process in list(self.processes.values()):
            self.world.end(process)
        self.processes, self.listeners = {}, {}
        self.client.forget_all()
        self.disk.lose_power(kept, self.rng, self.world.now - 60)
        self.asleep_until = 0.0
        self.world.call_at(self.world.now + seconds, self._boot)

    def _boot(self) -> None:
        self.world.note(f"host {self.name} boots")
        self.up = True
        self._booted()
        for daemon in self.daemons:
            self.world.call_at(self.world.now + 30 * self.rng.random(), daemon.start)

    def sleep(self, seconds: float) -> None:
        """Suspend to memory: nothing runs."""
        if self.up and self.asleep_until <= self.world.now:
            self.world.note(f"host {self.name} sleeps for {seconds:.0f} s")
            self.asleep_until = self.awake_since = self.world.now + seconds
            boots = self.boots
            self.world.call_at(self.asleep_until, lambda: self._woke(seconds, boots))

    def _woke(self, seconds: float, boots: int) -> None:
        if boots == self.boots:
            self.slept += seconds

    def is_asleep(self) -> bool:
        """Whether nothing runs now."""
        return self.asleep_until > self.world.now


def _reaper_above(process: Process) -> Process | None:
    """Who gets its orphans: the nearest living subreaper; None: init."""
    above = process.parent
    while above is not None and not (above.alive and above.subreaper):
        above = above.parent
    return above


def _late(request: Callable[[], object]) -> None:
    try:
        request()
    except OSError:
        pass  # nobody hears it
