"""The processes below a runner: starter, supervisors (the product's own classes), and the jobs, which are made up.

A job's script says what it does: `work SECONDS CODE TEMPER LEFT MILLI` (setup: `prepare` and the same), where TEMPER is
"calm" or "stubborn" (heeds no SIGTERM), LEFT the seconds for which a process lives on that it leaves behind, MILLI its
share of each of its GPUs. `Watch` sees what really runs, and what must never be.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from spoold.node import job, supervisor
from spoold.node.starter import LOOK, Starter, reap
from spoold.node.workplace import Workplace
from tests.simulation.hosts import Host
from tests.simulation.world import Process, World

WHOLE = 1000
LATE = 3.0  # seconds in which a supervisor notices that its host woke up
FOR = 1800.0  # seconds for which a supervisor rests: jobs here are longer and fewer than where that pays
IDLE = 600.0  # seconds between two looks of a starter that has nothing to do


class Run:
    """A stage of one rank of an attempt that began; it lives while a process of it does."""

    def __init__(self, key: str, rank: int, stage: str, host: Host, gpus: tuple[str, ...], milli: int) -> None:
        self.key, self.rank, self.stage, self.host, self.gpus, self.milli = key, rank, stage, host, gpus, milli
        self.job = int(key.partition(".")[0])
        self.began, self.ended = host.world.now, None
        self.supervisor: Process | None = None
        self.processes: list[Process] = []

    @property
    def lives(self) -> bool:
        """Whether anything of it is there."""
        return any(process.alive for process in self.processes)

    def __str__(self) -> str:
        return f"{self.key} rank {self.rank} ({self.stage}) on {self.host.name}"


class Watch:
    """What really runs, in true time; what is wrong is told to the world at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.all: list[Run] = []
        self.live: list[Run] = []
        self.once: set[tuple[str, int, str]] = set()
        self.excused = 0
        self.proofs: dict[str, str] = {}

    def begin(self, run: Run) -> None:
        """A process becomes the job's."""
        self.world.note(f"RUNS {run}")
        self.live = [other for other in self.live if other.lives]
        if (run.key, run.rank, run.stage) in self.once:
            self.world.fault(f"P4: {run} began a second time")
        self.once.add((run.key, run.rank, run.stage))
        for other in self.live:
            self._compare(run, other)
        self.all.append(run)
        self.live.append(run)
        if run.stage == "run":
            self._prove(run, f"+ {run.began:.6f} {run.milli / WHOLE} {','.join(run.gpus)}\n")

    def _compare(self, run: Run, other: Run) -> None:
        if other.job == run.job and other.key != run.key:
            if _keeps_no_time(other):
                self.excused += 1
            else:
                self.world.fault(f"P4: {run} begins while {other} runs")
        for gpu in set(run.gpus) & set(other.gpus):
            if other.key != run.key:
                held = sum(min(r.milli, WHOLE) for r in [*self.live, run] if gpu in r.gpus and _counts(r, run))
                if held > WHOLE:
                    self.world.fault(f"P3: {run} begins on {gpu}, which {other} uses: {held} thousandths")

    def finish(self, run: Run) -> None:
        """Its last line was reached."""
        if run.stage == "run":
            self._prove(run, f"- {self.world.now:.6f}\n")

    def _prove(self, run: Run, line: str) -> None:
        name = f"{run.key}.{run.rank}@n-{run.host.name}-{self.all.index(run) if run in self.all else 0}-0"
        self.proofs[name] = self.proofs.get(name, "") + line


def _counts(run: Run, new: Run) -> bool:
    return run is new or run.key != new.key


def _keeps_no_time(run: Run) -> bool:
    """Whether nobody could hold a run to the time rule: its supervisor was killed, or its host just woke up."""
    host = run.host
    dead = run.supervisor is None or not run.supervisor.alive
    return dead or host.is_asleep() or host.world.now - host.awake_since < LATE + supervisor.LOOK


# ---- starter and supervisors


class OneStarter(Starter):
    """The node's starter, which waits as our processes do."""

    def __init__(self, path: str, lock: int, host: Host) -> None:
        self.place, self.lock, self.kept, self.rest = Workplace(path), lock, 0, ""
        self.process = host.world.current
        assert self.process is not None
        self.orders = _os().open(self.place.orders, os.O_RDWR | os.O_NONBLOCK)
        # In place of the product's, whose socket pair would be the real kernel's: the starter uses both alike.
        self.resting = Rest(self.process)  # type: ignore[assignment]
        self.seen_runner, self.last_look = host.monotonic(), float("-inf")
        host.listeners[self.place.orders] = [lambda: host.world.wake(self.process)]

    def run(self) -> None:
        """Until there is nobody to do it for."""
        assert self.process is not None
        while not self.is_over():
            reap()
            self.process.signals.clear()
            for key in self.read_orders():
                self.process.on_fork = lambda key=key: supervise(self.process, self.place.path, key, self.resting)
                self.look_at(key)
            self.process.wait(LOOK if self.too_soon else IDLE)


class Rest:
    """In place of spoold.node.resting.Resting: supervisors whose attempt is over, of which one takes the next."""

    def __init__(self, starter: Process) -> None:
        self.starter, self.theirs = starter, None
        self.waiting: list[Process] = []
        self.given: dict[Process, str] = {}

    def give(self, key: str) -> bool:
        """Whether one rests, as far as the starter knows: it may have been killed."""
        if not self.waiting:
            return False
        process = self.waiting.pop()
        self.given[process] = key
        self.starter.world.wake(process)
        return True

    def next_attempt(self, process: Process) -> str:
        """The supervisor's side."""
        self.waiting.append(process)
        end = process.world.now + FOR
        while self.starter.alive and process not in self.given and process.world.now < end:
            process.wait(end - process.world.now)
        if process in self.waiting:
            self.waiting.remove(process)
        return self.given.pop(process, "")


def _os() -> Any:
    from spoold.node import starter

    return starter.os


def start_starter(place: Workplace) -> None:
    """In place of spoold.node.spawning.spawn."""
    host = _current_host(place)
    process = Process(host.world, host, f"starter@{host.name}", lambda: _starter_main(place.path, host))
    process.command = ("python", "-m", "spoold.node.starter", place.path)
    host.world.spawn(process, process.rng.random() ** 3 * 5)


def _current_host(_: object) -> Host:
    world = _os().world
    return world.current.host  # type: ignore[no-any-return]


def _starter_main(path: str, host: Host) -> None:
    lock = Workplace(path).lock_starter()
    if lock is not None:
        OneStarter(path, lock, host).run()


def supervise(starter: Process, path: str, first: str, rest: Rest) -> Process:
    """Fork a supervisor."""
    world, host = starter.world, starter.host

    def main() -> None:
        place, key = Workplace(path), first
        bell = _os().open(place.bell, os.O_RDWR | os.O_NONBLOCK)
        while key and Watcher(place, place.attempt(key), bell).run():
            key = rest.next_attempt(process)

    process = Process(world, host, f"supervisor of {first}@{host.name}", main)
    process.parent, process.subreaper, process.command = starter, True, starter.command
    starter.children.append(process)
    return world.spawn(process, process.rng.random() ** 4 * 2)


class Watcher(supervisor.Supervisor):
    """The product's supervisor; its fork is a job of ours."""

    def stage(self, stage: str) -> int:
        me = _os().world.current
        me.on_fork = lambda: Job(self, stage, me).process
        return super().stage(stage)


class Job:
    """The child of a supervisor: what job.py does until the exec, then the script."""

    def __init__(self, watcher: Watcher, stage: str, parent: Process) -> None:
        self.watcher, self.stage, self.attempt, self.order = watcher, stage, watcher.attempt, watcher.order
        self.world, self.host, self.parent = parent.world, parent.host, parent
        name = f"{stage} of {self.attempt.key}@{self.host.name}"
        self.process = Process(self.world, self.host, name, self.main)
        self.process.parent, self.process.dies_with_parent = parent, True
        parent.children.append(self.process)
        self.world.spawn(self.process, self.process.rng.random() ** 4)

    def main(self) -> None:
        """become(), then the work."""
        try:
            self._open_log()
        except OSError as error:
            job.write(self.attempt.file("fail"), {"reason": f"node {self.order['node']}: {error}"})
            self.process.status = job.CANNOT_START << 8
            return
        marker = (self.attempt.read("marker") or {}).get("pid")
        goes_on = self.stage == "run" and "setup_log" in self.order
        may_begin: Callable[[], bool] = self.watcher.may_go if goes_on else self.watcher.keeps_time
        if _os().getppid() != marker or not may_begin():
            self.process.status = job.KILLED << 8
            return
        self.process.dies_with_parent = False
        self._work()

    def _open_log(self) -> None:
        client, path = self.host.client, self.order[f"{self.stage}_log"]
        folder = os.path.dirname(path)
        above = [] if os.path.basename(folder).isdigit() else [os.path.dirname(folder)]
        for directory in (*above, folder):
            try:
                client.mkdir(directory, 0o750)
            except FileExistsError:
                pass
        client.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

    def _work(self) -> None:
        words = self.order["scripts"][self.stage].split()
        seconds, code = float(words[1]), int(words[2])
        run = self._begin(words)
        stubborn = "stubborn" in words
        end = self.world.now + seconds
        while self.world.now < end:
            self.process.wait(end - self.world.now)
            if signal.SIGTERM in self.process.signals and not stubborn:
                self.process.status = signal.SIGTERM
                return
            self.process.signals.clear()
        self._leave_behind(words, run)
        self.watcher_of(run).finish(run)
        self.process.status = code << 8

    def _begin(self, words: list[str]) -> Run:
        env = self.order.get("run_env", {})
        gpus = tuple(word for word in env["SKYSPOOL_GPU_UUIDS"].split(",") if word)
        milli = int(words[5])
        run = Run(self.attempt.key, int(env["SKYPILOT_NODE_RANK"]), self.stage, self.host, gpus, milli)
        run.supervisor = self.parent
        run.processes.append(self.process)
        self.process.environ = tuple(f"{name}={value}" for name, value in env.items())
        self.watcher_of(run).begin(run)
        return run

    def watcher_of(self, run: Run) -> Watch:
        """The one who sees all."""
        watch: Watch = self.world.watch  # type: ignore[attr-defined]
        return watch

    def _leave_behind(self, words: list[str], run: Run) -> None:
        left = float(words[4])
        if not left:
            return
        orphan = Process(self.world, self.host, f"orphan of {run.key}@{self.host.name}", lambda: None)
        orphan.main = lambda: _linger(orphan, left)
        orphan.parent = self.process
        orphan.environ = self.process.environ
        run.processes.append(orphan)
        self.process.children.append(orphan)
        self.world.spawn(orphan)


def _linger(process: Process, seconds: float) -> None:
    end = process.world.now + seconds
    while process.world.now < end:
        process.wait(end - process.world.now)
        process.signals.clear()  # it heeds nothing but SIGKILL
