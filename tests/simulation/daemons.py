"""Heads and runners: the product's own classes and loops, in a world's processes, with what they stand on replaced.

Replaced are the modules in calls.py; what asks the machine (boot id, machine id, processes, containers); the waker,
which here only sleeps and hears FIFOs; and the heads' lock, which is only a hint: this one changes hands when its
holder is not heard for the threshold, and by chance (`wrong`) also when it is.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import spoold.fsck.checking
import spoold.head.loop
import spoold.node.runner
import spoold.node.starter
from spool_layout import settings, taskfile, users
from spool_layout.paths import Spool
from spool_layout.settings import DeclaredNode, Settings
from spoold import local, wake
from spoold.head.loop import Head
from spoold.node import cgroups, cleaning, identity, memory, order, runner, spawning, supervisor
from spoold.node.runner import Runner
from tests.simulation import calls
from tests.simulation.hosts import Host
from tests.simulation.jobs import start_starter
from tests.simulation.world import Process, World

STATE = "/var/lib/skyspool"
# What is the same each time: users of this machine's password database, the meaning of a task's text.
LOOKED_UP_ONCE = (users.user_name, order.owner_of, taskfile.parse_task)
HASTE = 12  # short waits in a row after which a process that polls is taken for one on a busy host


class Waker:
    """In place of spoold.wake.Waker: nothing of the file system wakes anybody, as on NFS."""

    world: World

    def __init__(self, native: bool, ignored: frozenset[bytes] = frozenset()) -> None:
        process = self.world.current
        assert process is not None
        self.process, self.native, self.rung, self.rang, self._short = process, False, False, False, 0
        self.news: set[str] = set()

    def watch(self, directory: str, *_: object) -> None:
        """Never heard of."""

    def listen(self, descriptor: int) -> None:
        """A FIFO wakes."""
        path = self.process.files[descriptor].path
        self.process.host.listeners.setdefault(path, []).append(self._wake)

    def heard(self, descriptor: int) -> bytes:
        """What came through a FIFO."""
        said = b""
        try:
            while part := spoold.node.starter.os.read(descriptor, 4096):
                said += part
        except BlockingIOError:
            pass
        return said

    def ring(self) -> None:
        """Wake it."""
        self.rang = True
        self._wake()

    def _wake(self) -> None:
        self.rung = True
        self.world.wake(self.process)

    def wait(self, seconds: float) -> bool:
        """Sleep at most so long."""
        self.process.step()
        if not self.rung:
            self.rang = False
            self._short = self._short + 1 if seconds < 20 else 0
            if self._short > HASTE:
                seconds = max(seconds, min(60.0, 1.5 ** (self._short - HASTE)))
            self.process.wait(max(seconds, 0.001) / self.process.host.rate)
        rung, self.rung = self.rung, False
        self._short = 0 if rung else self._short
        return rung

    def close(self) -> None:
        """Nothing is held."""


class Lock:
    """What all HeadLocks of a world share. wrong: how often, by chance, it is free though it is held."""

    def __init__(self, world: World, threshold: float) -> None:
        self.world, self.threshold, self.wrong = world, threshold, 0.0
        self.holder: HeadLock | None = None
        self.heard = 0.0

    def seems_free(self, by: Process) -> bool:
        """Whether somebody who looks now may take it."""
        holder = self.holder
        if holder is None:
            return True
        if holder.renews():
            self.heard = self.world.now
        if not holder.process.alive and by.rng.random() < 0.05:
            return True
        return self.world.now - self.heard > self.threshold or by.rng.random() < self.wrong


class HeadLock:
    """In place of spool_layout.leadership.HeadLock."""

    shared: Lock

    def __init__(self, spool: Spool, said: Settings) -> None:
        process = self.shared.world.current
        assert process is not None
        self.process = process
        self.interval, self.looked = said.lock_heartbeat / 2, float("-inf")
        self.lost = self.held = False

    def renews(self) -> bool:
        """Whether its heartbeat comes through now."""
        p, now = self.process, self.shared.world.now
        return p.alive and p.stopped_until <= now and not p.host.is_asleep() and p.host.client.cut_until <= now

    def is_free(self) -> bool:
        """Whether it is worth trying."""
        self.looked = self.shared.world.now
        self.process.step()
        return self.shared.seems_free(self.process)

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self.looked + self.interval - self.shared.world.now)

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take it. An attempt takes its time: another may be faster."""
        self.process.step()
        if self.held and not self.lost:
            return True
        self.process.sleep(self.process.rng.random() * max(timeout, 2 * self.interval))
        if not self.shared.seems_free(self.process):
            return False
        before = self.shared.holder
        if before is not None and before is not self and before.process.rng.random() < 0.5:
            before.lost = True  # else it never notices
        self.shared.holder, self.shared.heard = self, self.shared.world.now
        self.held, self.lost = True, False
        return True

    def release(self) -> None:
        """Give it up."""
        self.process.step()
        if self.held and self.shared.holder is self:
            self.shared.holder = None
        self.held = False

    def known(self) -> dict[str, bytes]:
        """What the holder wrote."""
        return self.holders()

    def holders(self) -> dict[str, bytes]:
        """It changes with each renewal."""
        holder = self.shared.holder
        if holder is None:
            return {}
        if holder.renews():
            self.shared.heard = self.shared.world.now
        return {holder.process.name: str(self.shared.heard // (2 * self.interval)).encode()}


class Mount(NamedTuple):
    """In place of mounts.Mount."""

    network: bool = True
    of_one_kernel: bool = False
    kind: str = "nfs"
    of_one_kernel: bool = False


class Flusher:
    """In place of flushing.Flusher: nobody reads logs here."""

    def follow(self, paths: frozenset[str]) -> None:
        """Nothing."""


class Inline:
    """In place of a pool of threads."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], items: Any) -> Any:
        """One by one."""
        return map(function, items)


class Ear(logging.Handler):
    """What the daemons log, in the story; an exception that they only log is a fault."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = self.world.current
        self.world.note(f"{process.name if process else '?'}: {record.getMessage()}")
        if record.exc_info and record.exc_info[1] is not None:
            import traceback

            where = "".join(traceback.format_exception(record.exc_info[1])[-6:])
            self.world.fault(f"{process.name if process else '?'}: {record.getMessage()}\n{where}")


# ---- replacing


@contextmanager
def installed(world: World, lock: Lock) -> Iterator[None]:
    """While this lasts, the product's modules act on the world."""
    stand_ins = {id(real): (real, ours) for real, ours in replacements(world).items()}
    undo: list[tuple[Any, str, Any, bool]] = []
    opened = calls.open_of(world)
    Waker.world, HeadLock.shared = world, lock
    for module in product():
        for name, value in list(vars(module).items()):
            if id(value) in stand_ins and not name.startswith("__"):
                undo.append((module, name, value, True))
                setattr(module, name, stand_ins[id(value)][1])
        undo.append((module, "open", None, False))
        vars(module)["open"] = opened
    ear = Ear(world)
    logger = logging.getLogger("spoold")
    before = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    undo += tuned()
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        for module, name, value, was in reversed(undo):
            if was:
                setattr(module, name, value)
            else:
                vars(module).pop(name, None)


def product() -> list[Any]:
    """The modules of the product that are loaded."""
    rooms = ("spool_layout", "spoold")
    return [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] in rooms]


def replacements(world: World) -> dict[Any, Any]:
    """What stands in for what, wherever a module of the product names it."""
    return {
        **calls.modules(world),
        **without_cgroups(),
        local.boot_id: lambda: world.current.host.boot if world.current else "",
        identity.machine_id: lambda: f"machine-{world.current.host.name}" if world.current else "",
        cleaning.stop_containers: lambda *_: "",
        spawning.spawn: start_starter,
        spoold.head.loop.read_on: lambda root: Mount(),
        spoold.head.loop.HeadLock: HeadLock,
        spoold.head.loop.Waker: Waker,
        runner.Flusher: Flusher,
        memory.ThreadPoolExecutor: Inline,
        **{function: functools.cache(function) for function in LOOKED_UP_ONCE},
    }


def without_cgroups() -> dict[Any, Any]:
    """Nothing of this machine's is made or killed."""
    return {cgroups.here: cgroups.Place}


def tuned() -> list[tuple[Any, str, Any, bool]]:
    """The product's own constants that are seconds where our sites have minutes; and what is pure is done once."""
    changed = []
    parse = functools.cache(settings.parse)
    for module, name, value in ((supervisor, "LOOK", 90.0), (wake.Pace, "GROWTH", 2.5), (settings, "parse", parse)):
        changed.append((module, name, getattr(module, name), True))
        setattr(module, name, value)
    return changed


# ---- the daemons


def head_main(host: Host, world: World) -> Callable[[], object]:
    """`spoold head`."""

    def main() -> None:
        head = Head(calls.ROOT, state=STATE)
        world.heads[host.name] = head  # type: ignore[attr-defined]
        head.run()

    return main


def head_once_main(host: Host) -> Callable[[], object]:
    """`spoold head --once`."""
    return lambda: Head(calls.ROOT, state=STATE, once=True).once()


def node_main(host: Host, world: World, gpus: int) -> Callable[[], object]:
    """`spoold node`."""

    def main() -> None:
        assert world.current is not None
        world.current.command = ("spoold", "node", calls.ROOT)
        flags = DeclaredNode(f"H100:{gpus}", 16.0, 128.0, f"10.0.0.{ord(host.name[0])}")
        Runner(calls.ROOT, flags, name=f"n-{host.name}", state=STATE).run()

    return main
