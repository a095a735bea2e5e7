"""A real spool on a real NFS, with heads and runners on several machines: a scenario in five lines.

    site = Site(bench, "main")
    site.head("b").node("c", gpus="H100:4")
    site.submit("a", "hello", run="echo hello")
    assert site.over(1) == {"SUCCEEDED": 1}

The spool is a directory of the mount. Daemons are started as `spoold head|node` on a machine, each with a key, and
ended with `close`. What the spool says is read by way of the server's own disk, which no client's cache can colour; how
a client sees it is what the client `skyspool`, run on a machine with `sky`, tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spool_layout import settings
from tests.history.account import Account, what_counts
from tests.history.checker import History
from tests.history.proof import script
from tests.nfs.bench import HERE, HOME, MOUNT, SERVER, Bench, Command, eventually
from tests.nfs.writers import NEVER

SPOOLD = ("-m", "spoold")
# Everything else is as `init` writes it for a network file system.
PLAIN = {"shell": "plain"}
QUICK = {**PLAIN, "settle": "0.5s", "lock_heartbeat": "1s", "lock_threshold": "4s", "heartbeat": "1s", "grace": "3s"}


class Site:
    """One spool on a bench."""

    def __init__(self, bench: Bench, name: str, **more: str) -> None:
        """more: settings beside those that `init` writes."""
        self.bench, self.name, self.root = bench, name, f"{MOUNT}/{name}"
        self.proofs = f"{self.root}/proofs"
        self.daemons: dict[str, Command] = {}
        self.made: list[Command] = []
        self._make({**PLAIN, **more})

    def _make(self, chosen: dict[str, str]) -> None:
        from spool_layout.paths import Spool

        lines = [line for line in settings.first_text(self.name, True).splitlines() if line.split(":")[0] not in chosen]
        text = "\n".join([*lines, *(f"{key}: {value}" for key, value in chosen.items())]) + "\n"
        folders = shlex.join([*Spool(self.root).directories, self.proofs])
        # synced, since the server may crash at once
        self.shell(SERVER, f"mkdir -p {folders} && cat >{self.root}/spool.yaml <<'END'\n{text}END\nsync")
        config = shlex.quote(f"default: {self.name}\nclusters:\n  {self.name}: {self.root}\n")
        folder = f"{HOME}/.config/skyspool"
        for client in self.bench.clients:
            self.shell(client, f"test -e {NEVER} || mkfifo {NEVER}")
            self.shell(client, f"mkdir -p {folder} && printf %s {config} >{folder}/config.yaml")

    # ---- machines

    def shell(self, machine: str, script: str, seconds: float = 60) -> str:
        """Run a shell script on a machine: what it printed."""
        return self.bench.run(machine, "sh", "-c", script, seconds=seconds)

    def client(self, *words: str) -> list[str]:
        """The command line of the client `skyspool`."""
        return [sys.executable, "-m", "skyspool", *words]

    def sky(self, machine: str, *words: str, check: int | None = 0, seconds: float = 60) -> str:
        """Run the client `skyspool` on a machine: what it printed."""
        return self.bench.run(machine, *self.client(*words), check=check, seconds=seconds)

    # ---- daemons

    def start(self, key: str, machine: str, *words: str, program: Sequence[str] = SPOOLD) -> Site:
        """Start a daemon on a machine under a key. program: what stands for `spoold`."""
        state = f"/tmp/state-{self.name}"
        command = [sys.executable, *program, words[0], self.root, "--state", state, *words[1:]]
        self.daemons[key] = self.bench.begin(machine, *command)
        self.made.append(self.daemons[key])
        return self

    def head(self, machine: str, key: str = "") -> Site:
        """Start a head on a machine, under the key `head-MACHINE`."""
        return self.start(key or f"head-{machine}", machine, "head")

    def node(self, machine: str, gpus: str = "none", cpus: float = 8, key: str = "") -> Site:
        """Start a node on a machine and of its name, under the key `node-MACHINE`."""
        offer = ["--gpus", gpus, "--cpus", str(cpus), "--memory", "64", "--address", self.bench.address(machine)]
        return self.start(key or f"node-{machine}", machine, "node", "--name", machine, *offer)

    def kill(self, key: str, number: int = signal.SIGKILL) -> None:
        """Signal a daemon and wait for its end."""
        daemon = self.daemons.pop(key)
        if daemon.poll() is None:
            daemon.signal(number)
            daemon.wait()

    def stop(self, key: str) -> None:
        """Freeze a daemon's process alone (SIGSTOP)."""
        self.daemons[key].signal(signal.SIGSTOP)

    def go_on(self, key: str) -> None:
        """Let it go on."""
        self.daemons[key].signal(signal.SIGCONT)

    def close(self) -> None:
        """End all daemons; jobs and starters are ended with their machine."""
        for key in list(self.daemons):
            with contextlib.suppress(AssertionError):  # on a machine that hangs
                self.kill(key)

    # ---- users

    def submit(self, machine: str, name: str, run: str, share: float | None = None, **more: object) -> None:
        """mv a task file into pending/, as a user on a machine does. share: of GPUs; else a CPU job."""
        resources = {"accelerators": f"H100:{share:g}"} if share else {}
        task = json.dumps({"name": name, "resources": {"cpus": 0.1, **resources}, **more, "run": run})  # JSON is YAML
        made = f"{self.root}/tmp/{name}.{os.urandom(4).hex()}"
        text = shlex.quote(f"{task}\n...\n")
        self.shell(machine, f"printf %s {text} >{made} && mv {made} {self.root}/pending/{name}.yaml")

    def record(self, machine: str, name: str, share: float = 1, work: str = ":", **more: object) -> None:
        """Submit a job that records that it ran (tests/history/proof.py)."""
        self.submit(machine, name, script(self.proofs, share, work), share, **more)

    def write(self, machine: str, way: str, prefix: str, count: int, seed: int = 0, spread: float = 0.0) -> Command:
        """Start a program on a machine that drops files (writers.py)."""
        words = [self.root, way, prefix, str(count), self.proofs, str(seed), str(spread)]
        return self.bench.begin(machine, sys.executable, str(HERE / "writers.py"), *words)

    # ---- look

    def files(self, folder: str) -> dict[str, str]:
        """Text of every file below a directory of the spool, by its path in it, as the server's disk has it."""
        return dict(json.loads(self.bench.run(SERVER, "files", f"{self.root}/{folder}")))

    def names(self, folder: str) -> list[str]:
        """The files below a directory of the spool, by their paths in it."""
        return list(json.loads(self.bench.run(SERVER, "names", f"{self.root}/{folder}")))

    def event_files(self) -> dict[int, bytes]:
        """Epoch -> its events, also of those that were packed away."""
        found = self.files("events").items()
        return {int(Path(n).stem): t.encode(errors="surrogateescape") for n, t in found if n.endswith(".jsonl")}

    def account(self) -> Account:
        """The books by the events that count now."""
        account = Account()
        account.take(what_counts(self.event_files())[0])
        return account

    def seal(self) -> dict[str, Any]:
        """The record with which the epoch began that counts now; {}: none yet."""
        return next((r for r in reversed(what_counts(self.event_files())[0]) if r["event"] == "sealed"), {})

    def leader(self) -> tuple[str, int]:
        """The machine whose head began the epoch that counts now, and the epoch; ("", 0): none yet."""
        seal = self.seal()
        return (seal["leader"]["host"], seal["epoch"]) if seal else ("", 0)

    def leads(self, *machines: str, seconds: float = 30) -> float:
        """Wait until the head of one of these machines leads: the seconds that took, by its own record."""
        began = self.clock()
        self.eventually(lambda: self.leader()[0] in machines, seconds)
        return float(self.seal()["at"]) - began

    def clock(self) -> float:
        """Now, by the server's clock: on a busy host it is seconds behind the host's."""
        return float(self.shell(SERVER, "date +%s.%N"))

    def is_ready(self, *nodes: str, seconds: float = 40) -> None:
        """Wait until the head has heard these nodes."""
        self.eventually(lambda: set(nodes) <= {name.partition("/")[0] for name in self.assigned()}, seconds)

    def assigned(self) -> list[str]:
        return [name for name in self.names("nodes") if name.endswith("/assigned.json")]

    def over(self, count: int, seconds: float = 60) -> Counter[str]:
        """Wait until so many jobs are over: status -> how many."""
        self.eventually(lambda: len(self.account().over) >= count, seconds, look=1.0)  # it reads all that was written
        return Counter(self.account().over.values())

    def history(self, *silent: str) -> History:
        """What was written down so far. silent: names of jobs that do not record that they ran."""
        return History(self.event_files(), self.files("proofs"), self.files("logs"), frozenset(silent))

    def eventually(self, holds: Callable[[], object], seconds: float = 30, look: float = 0.25) -> None:
        """Wait until something holds, with so many seconds between looks; fail with what the daemons said if not."""
        eventually(holds, seconds, self.story, look)

    def story(self) -> str:
        """What the daemons said last."""
        told = []
        for command in self.made:
            told.append(f"--- {command.machine}: {' '.join(command.words[3:5])} ({command.poll()})")
            told += (command.out + command.err).splitlines()[-40:]
        return "\n".join(told)


@contextlib.contextmanager
def running(bench: Bench, name: str, **more: str) -> Iterator[Site]:
    """A site whose daemons are ended with the `with`."""
    site = Site(bench, name, **more)
    try:
        yield site
    finally:
        site.close()


def heads(site: Site) -> dict[str, dict[str, object]]:
    """What each head says of itself: file name -> its JSON."""
    return {Path(name).stem: json.loads(text) for name, text in site.files("heads").items() if text}
