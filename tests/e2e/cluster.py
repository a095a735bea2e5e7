"""A real spool with real head and node processes, in a temporary directory: a scenario in five lines."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout import history, settings
from spool_layout.events import Started
from spool_layout.paths import Spool
from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.storage import Disk
from spoold.core.invariants import broken
from spoold.node.workplace import Workplace

# Short waits, so that tests are quick. A head that is killed costs lock_threshold.
QUICK = {
    "settle": "0.3s",
    "lock_heartbeat": "0.4s",
    "lock_threshold": "1.2s",
    "heartbeat": "0.5s",
    "grace": "2s",
    "node_timeout": "8s",
    "fence_margin": "2s",
    "shell": "plain",
}


SPOOLS: list[str] = []  # of every cluster of this run

# A mount namespace in which this user's home is another directory ($1); $0 is the file that says so.
# All of /etc, since a mount on /etc/passwd itself is gone as soon as somebody (useradd, in another test) replaces that.
AT_HOME = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"']


class Gate:
    """Where jobs wait, without polling, until the test opens it: `run: GATE`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __str__(self) -> str:
        return f"flock -s {self.path} true"

    def open(self) -> None:
        """Let everybody through, also those who come later."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1


class Cluster:
    """One spool and the daemons that a test starts on it. Everything is ended by `close`."""

    def __init__(self, folder: Path, name: str = "mycluster", **more: str) -> None:
        self.folder, self.name = folder, name
        self.spool, self.disk = Spool(folder / "spool"), Disk()
        SPOOLS.append(self.spool.root)
        for directory in self.spool.directories:
            self.disk.make_dir(directory)
        said = settings.first_text(name, False).splitlines()
        said = [line for line in said if line.split(":")[0] not in {**QUICK, **more}]
        said += [f"{key}: {value}" for key, value in {**QUICK, **more}.items()]
        Path(self.spool.settings).write_text("\n".join(said) + "\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.gates: list[Gate] = []
        self.host: list[str] = []  # words before a daemon's command line
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / ".config/skyspool").mkdir(parents=True)
        (self.home / ".config/skyspool/config.yaml").write_text(
            f"default: {name}\nclusters:\n  {name}: {self.spool.root}\n"
        )

    # ---- daemons

    def spoold(self, *words: str) -> list[str]:
        """The command line of a daemon on this spool."""
        return [
            *self.host,
            sys.executable,
            "-m",
            "spoold",
            words[0],
            self.spool.root,
            "--state",
            str(self.folder / "state"),
            *words[1:],
        ]

    def start(self, key: str, *words: str) -> None:
        """Start a daemon under a key; its log is KEY.log in the test's folder."""
        with (self.folder / f"{key}.log").open("ab") as log:
            self.processes[key] = subprocess.Popen(
                self.spoold(*words), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def head(self, key: str = "head") -> Cluster:
        """Start a head."""
        self.start(key, "head")
        return self

    def node(self, name: str = "n1", gpus: str = "none", cpus: float = 8, **more: str) -> Cluster:
        """Start a node."""
        flags = [word for key, value in more.items() for word in (f"--{key}", value)]
        self.start(
            name,
            "node",
            "--name",
            name,
            "--gpus",
            gpus,
            "--cpus",
            str(cpus),
            "--memory",
            "64",
            "--address",
            "127.0.0.1",
            *flags,
        )
        return self

    def once(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `spoold … --once` to its end."""
        return subprocess.run(self.spoold(*words, "--once"), capture_output=True, text=True, timeout=60)

    def kill(self, key: str, number: int = signal.SIGKILL) -> None:
        """Signal a daemon, by default so that it cannot tidy up, and wait for its end."""
        process = self.processes.pop(key)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # it may be frozen
        process.wait(20)

    def ready(self) -> Cluster:
        """Wait until a head leads and every started node is up."""
        nodes = {key for key in self.processes if not key.startswith("head")}
        self.eventually(lambda: nodes <= {n.name for n in self.state().nodes.values() if n.state == "up"}, 20)
        return self

    def owner_at_home(self) -> Cluster:
        """Daemons started from here on see a host on which this user's home is `self.home`, as the clients do."""
        lines = Path("/etc/passwd").read_text().splitlines()
        mine = pwd.getpwuid(os.getuid())
        lines = [line for line in lines if line.split(":")[2] != str(mine.pw_uid)]
        lines.insert(0, f"{mine.pw_name}:x:{mine.pw_uid}:{mine.pw_gid}::{self.home}:/bin/bash")
        for _ in range(10):  # another test may just be making an account: what was listed may be gone
            if not subprocess.run(["cp", "-a", "/etc/.", str(self.folder / "etc")], capture_output=True).returncode:
                break
        (self.folder / "etc/passwd").write_text("\n".join(lines) + "\n")
        self.host = [*AT_HOME, str(self.folder / "etc")]
        if subprocess.run([*self.host, "true"], capture_output=True).returncode:
            pytest.skip("NOT TESTED: a home of the test's own needs a mount namespace, and so root")
        return self

    def warm(self) -> Cluster:
        """Run a first job on every node: their starters live from here on, for fixtures that serve several tests."""
        nodes = sum(not key.startswith("head") for key in self.processes)
        assert self.ended(self.add("warm.yaml", f"num_nodes: {nodes}\nrun: 'true'\n...\n")) == ["SUCCEEDED"]
        return self

    def close(self) -> None:
        """End every daemon, job and starter."""
        for gate in self.gates:
            gate.open()
        if any(key.startswith("head") for key in self.processes) and any(
            job.allocations for job in self.state().jobs.values()
        ):
            made = Path(self.spool.tmp, "cancel")
            made.write_text("cancel: all\n...\n")
            made.rename(Path(self.spool.requests, "cancel.yaml"))
            with contextlib.suppress(AssertionError):
                self.eventually(lambda: not any(j.allocations for j in self.state().jobs.values()), 10)
        for key in list(self.processes):
            self.kill(key, signal.SIGTERM)
        self.end_starters()

    def starters(self) -> dict[str, int]:
        """pid of the starter of every node that has one."""
        places = [Workplace(str(path)) for path in self.folder.glob("state/*/node-*")]
        alive = [place for place in places if place.has_starter()]
        told = {place: Path(place.path, "starter.lock").read_text() for place in alive}
        return {place.path.rpartition("/node-")[2]: json.loads(text)["pid"] for place, text in told.items() if text}

    def end_starters(self) -> None:
        """They end by themselves in a second, or ten after --once: only the test of that waits for it."""
        for pid in {*self.starters().values(), *self.coming_up()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.eventually(lambda: not self.starters(), 15)

    def coming_up(self) -> list[int]:
        """Starters that have not yet taken their lock: a runner that was killed may have just made one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                ours = b"spoold.node.starter" in words and os.fsencode(self.folder / "state") in words
                if ours and (entry / "comm").read_text() != "skyspool-job\n":
                    found.append(int(entry.name))
        return found

    # ---- users

    def drop(self, name: str, text: str) -> None:
        """mv a task file into pending/."""
        made = Path(self.spool.tmp, f"{name}.{time.monotonic_ns()}")
        made.write_text(text)
        made.rename(Path(self.spool.pending, name))

    def add(self, name: str, text: str) -> int:
        """mv a task file into pending/, and wait until it is accepted. Its ID."""
        before = self.state().next_id
        self.drop(name, text)
        self.eventually(lambda: any(job.id >= before and job.drop == name for job in self.state().known()))
        return max(job.id for job in self.state().known() if job.drop == name)

    def submit(self, *words: str) -> int:
        """`skyspool exec -d` with these words. The ID that it prints."""
        return int(self.sky("exec", self.name, "-d", *words).stdout.rpartition("ID: ")[2])

    def gate(self) -> Gate:
        """A new closed gate."""
        self.gates.append(Gate(self.folder / f"gate{len(self.gates)}"))
        return self.gates[-1]

    def sky(
        self,
        *words: str,
        check: int | None = 0,
        cwd: Path | None = None,
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the client as this test's user would. check: the exit code that is expected; None: any."""
        done = subprocess.run(
            [sys.executable, "-m", "skyspool", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self.home), "COLUMNS": "80", **(env or {})},
        )
        if check is not None:
            assert done.returncode == check, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    # ---- look

    def state(self) -> State:
        """The state that the disk tells now."""
        return history.read_present(self.spool, self.disk).state

    def job(self, ident: int) -> Job | None:
        """A live or lately ended job."""
        return self.state().find(ident)

    def statuses(self) -> dict[int, str]:
        """Status by ID."""
        return {job.id: str(job.status) for job in self.state().known()}

    def eventually(self, holds: Callable[[], object], seconds: float = 20) -> None:
        """Wait until something holds; fail with what the daemons said if it does not."""
        end = time.monotonic() + seconds
        while not seen(holds):
            assert time.monotonic() < end, self.story()
            assert all(process.poll() is None for process in self.processes.values()), self.story()
            time.sleep(0.03)

    def ended(self, *idents: int, seconds: float = 20) -> list[str]:
        """Wait until these jobs are over; their statuses."""
        self.eventually(lambda: all((j := self.job(i)) and not j.live for i in idents), seconds)
        return [self.statuses()[i] for i in idents]

    def runs(self, *idents: int, seconds: float = 20) -> None:
        """Wait until the run commands of these jobs have begun."""
        self.eventually(
            lambda: all((j := self.job(i)) and j.status == "RUNNING" and j.start_at for i in idents), seconds
        )

    def has_status(self, status: str, *idents: int, seconds: float = 20) -> None:
        """Wait until these jobs have a status."""
        self.eventually(lambda: {self.statuses().get(i) for i in idents} == {status}, seconds)

    def reason(self, ident: int) -> str:
        """Why a job is what it is."""
        return job.reason if (job := self.job(ident)) else "no such job"

    def log(self, ident: int, file: str = "run.log") -> str:
        """What a job wrote."""
        return Path(self.spool.log_dir(ident), file).read_text()

    def story(self) -> str:
        """Everything that helps to understand a failure."""
        state = self.state()
        told = [f"{job}" for job in state.known()] + [f"{node}" for node in state.nodes.values()]
        for log in sorted(self.folder.glob("*.log")):
            told.append(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-40:]))
        return "\n".join(told)

    def sound(self) -> None:
        """The promises that can be read from the disk: invariants, and no GPU above one at any moment."""
        assert broken(self.state()) == []
        replay = State()
        for event in self.events():
            replay.apply(event)  # type: ignore[arg-type]
            if isinstance(event, Started):
                assert broken(replay) == []

    def events(self) -> list[object]:
        """Every event that counts, of all epochs, also of those that were packed away."""
        from spool_layout.events import Sealed, decode_events

        by_epoch = self._event_files()
        seals: dict[int, int] = {}
        for epoch in sorted(by_epoch):
            first = decode_events(by_epoch[epoch])[0][:1]
            if first and isinstance(first[0], Sealed):
                seals.update(first[0].seals)
        return [event for epoch in sorted(by_epoch) for event in decode_events(by_epoch[epoch][: seals.get(epoch)])[0]]

    def _event_files(self) -> dict[int, bytes]:
        """Text of every epoch's file. A living head may pack one away between the listing and the look."""
        for _ in range(20):
            try:
                files = [*Path(self.spool.events).glob("*.jsonl"), *Path(self.spool.archive).glob("*/*.jsonl")]
                return {int(path.stem): path.read_bytes() for path in files}
            except FileNotFoundError:
                continue
        raise AssertionError("the event files are packed away faster than they can be read")

    def quiet(self) -> None:
        """No daemon has told of an error of its own."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("state/*/node-*/starter.log")]
        told = {log.name: log.read_text() for log in logs}
        assert [name for name, text in told.items() if "Traceback" in text] == [], self.story()


def seen(holds: Callable[[], object]) -> object:
    """What a look finds; nothing where what it had listed was gone when it came to it."""
    try:
        return holds()
    except FileNotFoundError:
        return False


def sleepers(*seconds: int) -> list[int]:
    """The living processes `sleep SECONDS` of this run's jobs: each test chooses numbers of its own.

    Jobs have the spool's directory in their environment; one that cleared its environment is taken for ours.
    """
    wanted = {f"sleep\0{number}\0".encode() for number in seconds}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if (entry / "cmdline").read_bytes() in wanted:
                environment = (entry / "environ").read_bytes()
                if not environment or any(os.fsencode(root) in environment for root in SPOOLS):
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def running(folder: Path, **more: str) -> Iterator[Cluster]:
    """A cluster that is ended with the test."""
    cluster = Cluster(folder, **more)
    try:
        yield cluster
        cluster.quiet()
    finally:
        cluster.close()
