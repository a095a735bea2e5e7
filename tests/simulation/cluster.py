"""One run: a cluster is made from a plan, lives through it, is left in peace until nothing waits, and is judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from spool_layout.paths import Spool
from tests.simulation import calls, daemons, judging
from tests.simulation.hosts import Daemon, Host
from tests.simulation.jobs import Watch
from tests.simulation.plan import DAY, SETTINGS, Deed, Fault, Plan
from tests.simulation.server import Server
from tests.simulation.users import Users
from tests.simulation.world import Killed, Process, World

HOUR = 3600.0
PATIENCE = 72 * HOUR  # of peace, after which every job must have ended
CRON = 600.0  # seconds between two runs of `spoold head --once`
CONSOLE = "z"  # the host from which is judged; nothing happens to it


class Outcome(NamedTuple):
    """What became of a run. faults: what must not be; story: the last of what happened."""

    plan: Plan
    faults: list[str]
    story: list[str]
    figures: dict[str, float]


class Cluster:
    """The hosts of a plan, and what happens to them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = world = World(plan.seed)
        self.server = Server(calls.ROOT, lambda: world.now, world.rng.uniform(-600, 600), plan.step)
        self.hosts = {n: Host(world, n, self.server, plan.cached, plan.version) for n in [*plan.hosts, CONSOLE]}
        self.lock = daemons.Lock(world, world.rng.choice((30.0, 300.0, 1800.0)))
        self.watch = world.watch = Watch(world)  # type: ignore[attr-defined]
        world.heads = {}  # type: ignore[attr-defined]
        self.users = Users()
        self._make_spool()
        self._employ()
        for deed in plan.deeds:
            world.call_at(deed.at, partial(self._do, deed))
        for fault in plan.faults:
            world.call_at(fault.at, partial(self._harm, fault))
        world.call_at(plan.days * DAY, self._calm)

    def _make_spool(self) -> None:
        self.spool = Spool(calls.ROOT)
        for folder in self.spool.directories[1:]:
            private = folder.rpartition("/")[2] in ("tmp", "pending", "requests", "claims")
            self.server.mkdir(folder, 0o700 if private else 0o755, 4242)
        text = "format: 1\nid: s0123456789abcdef\nname: sim\n"
        text += "".join(f"{key}: {value}\n" for key, value in SETTINGS.items())
        self.server.write(self.server.create(self.spool.settings, 0o644, 4242), text.encode(), 0)

    def _employ(self) -> None:
        for name in self.plan.heads:
            host = self.hosts[name]
            if name in self.plan.cron:
                self.world.call_at(CRON * host.rng.random(), lambda host=host: self._cron(host))
            else:
                host.daemons.append(Daemon(f"head@{name}", host, daemons.head_main(host, self.world)))
        for name, gpus in self.plan.nodes.items():
            host = self.hosts[name]
            host.daemons.append(Daemon(f"node@{name}", host, daemons.node_main(host, self.world, gpus)))
        for host in self.hosts.values():
            for daemon in host.daemons:
                daemon.start()

    def _cron(self, host: Host) -> None:
        if host.up and not host.is_asleep():
            process = Process(self.world, host, f"once@{host.name}", daemons.head_once_main(host))
            self.world.spawn(process)
        self.world.call_at(self.world.now + CRON, lambda: self._cron(host))

    # ---- what happens

    def _do(self, deed: Deed) -> None:
        self.world.note(f"USER {deed.kind} {deed.name} on {deed.where}")
        self.users.act(deed, self.hosts[deed.where])

    def _harm(self, fault: Fault) -> None:
        host = self.hosts[fault.where]
        if host.up:
            self.world.note(f"FAULT {fault}")
            HARMS[fault.kind](self, fault, host)

    def _calm(self) -> None:
        """From here on nothing goes wrong any more."""
        self.world.note("PEACE")
        self.lock.wrong = 0.0
        self.server.down_until = 0.0
        for host in self.hosts.values():
            client = host.client
            client.cut_until = client.slow = client.lossy = client.soft = 0.0
            for process in host.processes.values():
                process.fuse, process.stopped_until = 0, 0.0
            for daemon in host.daemons:
                self.world.call_at(self.world.now + HOUR * self.world.rng.random(), daemon.come_back)

    # ---- the run

    def run(self) -> Outcome:
        """To the end, and the verdict."""
        with daemons.installed(self.world, self.lock):
            try:
                self.world.run(self.plan.days * DAY)
                peace = self._rest()
                if not self.world.faults:
                    self._ask(partial(judging.judge, self, peace))
            finally:
                self._clear_away()
        figures = {
            "calls": self.world.calls,
            "jobs": sum(self.users.due.values()),
            "runs": len(self.watch.all),
            "excused": self.watch.excused,
            "peace": round(peace / HOUR, 1),
            "epochs": judging.epochs(self),
            "mark": self.world.mark,
        }
        return Outcome(self.plan, self.world.faults, list(self.world.story), figures)

    def _rest(self) -> float:
        """Seconds of peace until nothing waits or runs."""
        world, began = self.world, self.world.now
        while world.now - began < PATIENCE and not world.faults:
            world.run(world.now + 2 * HOUR)
            if world.now - began >= 4 * HOUR and self._ask(partial(judging.is_quiet, self)):
                break
        return world.now - began

    def _ask(self, question: Callable[[], object]) -> object:
        """Ask something on the console, in the world's time."""
        answer: list[object] = []
        console = self.hosts[CONSOLE]
        process = Process(self.world, console, "console", lambda: answer.append(question()))
        self.world.spawn(process)
        self.world.run(self.world.now + 600.0)
        return answer[0] if answer else None

    def _clear_away(self) -> None:
        """End every process, so that no greenlet outlives the run."""
        for host in self.hosts.values():
            host.daemons = []
            for process in list(host.processes.values()):
                process.alive = False
                if process.fiber is not None and not process.fiber.dead and process.fiber:
                    process.fiber.throw(Killed)


# ---- faults


def _later(host: Host, process: Process, fault: Fault, blow: Callable[[], None]) -> None:
    """At once, or when the process has made some more calls."""
    if not fault.fuse:
        blow()
    elif process.alive:
        process.fuse, process.blow = fault.fuse, blow


def _of(host: Host, words: str) -> Process | None:
    found = [p for p in host.processes.values() if p.alive and p.name.startswith(words)]
    return found[0] if found else None


def _kill(words: str) -> Callable[[Cluster, Fault, Host], None]:
    def harm(cluster: Cluster, fault: Fault, host: Host) -> None:
        process = _of(host, words)
        if process is not None:
            _later(host, process, fault, lambda: _killed(cluster, process))

    return harm


def _killed(cluster: Cluster, process: Process) -> None:
    cluster.world.note(f"{process.name} is killed")
    cluster.world.end(process)


def _stop(words: str) -> Callable[[Cluster, Fault, Host], None]:
    def harm(cluster: Cluster, fault: Fault, host: Host) -> None:
        process = _of(host, words)
        if process is not None:
            _later(host, process, fault, lambda: _stopped(cluster, process, fault.lasts))

    return harm


def _stopped(cluster: Cluster, process: Process, seconds: float) -> None:
    cluster.world.note(f"{process.name} is stopped for {seconds:.0f} s")
    process.stopped_until = cluster.world.now + seconds


def _power(cluster: Cluster, fault: Fault, host: Host) -> None:
    kept = ("all", "all", "torn", "nothing")[int(fault.chance * 4)]
    process = _of(host, "node" if fault.chance * 40 % 1 < 0.5 else "head")
    if process is None or not fault.fuse:
        host.crash(kept, fault.lasts)
    else:
        _later(host, process, fault, lambda: host.crash(kept, fault.lasts))


def _sleep(cluster: Cluster, fault: Fault, host: Host) -> None:
    host.sleep(fault.lasts)


def _cut(cluster: Cluster, fault: Fault, host: Host) -> None:
    host.client.cut_until = max(host.client.cut_until, cluster.world.now + fault.lasts)


def _for_a_while(name: str, value: Callable[[Fault], float]) -> Callable[[Cluster, Fault, Host], None]:
    def harm(cluster: Cluster, fault: Fault, host: Host) -> None:
        setattr(host.client, name, value(fault))
        cluster.world.call_at(cluster.world.now + 3 * fault.lasts, lambda: setattr(host.client, name, 0.0))

    return harm


def _server(cluster: Cluster, fault: Fault, host: Host) -> None:
    cluster.server.boots += 1
    cluster.server.down_until = cluster.world.now + min(fault.lasts, HOUR)


def _clock(cluster: Cluster, fault: Fault, host: Host) -> None:
    host.skew += (fault.chance - 0.5) * 2 * 86400


def _wrong_lock(cluster: Cluster, fault: Fault, host: Host) -> None:
    cluster.lock.wrong = 0.05 + 0.5 * fault.chance
    cluster.world.call_at(cluster.world.now + 2 * fault.lasts, lambda: setattr(cluster.lock, "wrong", 0.0))


def _leave(words: str) -> Callable[[Cluster, Fault, Host], None]:
    def harm(cluster: Cluster, fault: Fault, host: Host) -> None:
        for daemon in host.daemons:
            if daemon.name.startswith(words):
                daemon.leave()
                cluster.world.call_at(cluster.world.now + fault.lasts, daemon.come_back)

    return harm


HARMS: dict[str, Callable[[Cluster, Fault, Host], None]] = {
    "kill head": _kill("head"),
    "kill runner": _kill("node"),
    "kill starter": _kill("starter"),
    "kill supervisor": _kill("supervisor"),
    "power": _power,
    "stop head": _stop("head"),
    "stop runner": _stop("node"),
    "sleep": _sleep,
    "cut": _cut,
    "slow": _for_a_while("slow", lambda fault: 0.1 + 30 * fault.chance**3),
    "lossy": _for_a_while("lossy", lambda fault: 0.02 + 0.3 * fault.chance),
    "soft": _for_a_while("soft", lambda fault: 5 + 30 * fault.chance),
    "server": _server,
    "clock": _clock,
    "wrong lock": _wrong_lock,
    "leave node": _leave("node"),
    "leave head": _leave("head"),
}
