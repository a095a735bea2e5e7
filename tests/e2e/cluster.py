"""A real spool with real head and node processes, in a temporary directory: a scenario in five lines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spool_layout import history, settings
from spool_layout.paths import Spool
from spool_layout.records import Job, Started
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


class Cluster:
    """One spool and the daemons that a test starts on it. Everything is ended by `close`."""

    def __init__(self, folder: Path, name: str = "mycluster", **more: str) -> None:
        self.folder, self.name = folder, name
        self.spool, self.disk = Spool(folder / "spool"), Disk()
        for directory in self.spool.directories:
            self.disk.make_dir(directory)
        said = settings.first_text(name, False).splitlines()
        said = [line for line in said if line.split(":")[0] not in {**QUICK, **more}]
        said += [f"{key}: {value}" for key, value in {**QUICK, **more}.items()]
        Path(self.spool.settings).write_text("\n".join(said) + "\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
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
        process.wait(20)

    def ready(self) -> Cluster:
        """Wait until a head leads and every started node is up."""
        nodes = {key for key in self.processes if not key.startswith("head")}
        self.eventually(lambda: nodes <= {n.name for n in self.state().nodes.values() if n.state == "up"}, 20)
        return self

    def close(self) -> None:
        """End every daemon, job and starter."""
        if self.processes and any(job.allocations for job in self.state().jobs.values()):
            made = Path(self.spool.tmp, "cancel")
            made.write_text("cancel: all\n...\n")
            made.rename(Path(self.spool.requests, "cancel.yaml"))
            with contextlib.suppress(AssertionError):
                self.eventually(lambda: not any(j.allocations for j in self.state().jobs.values()), 10)
        for key in list(self.processes):
            self.kill(key, signal.SIGTERM)
        places = [Workplace(str(path)) for path in self.folder.glob("state/*/node-*")]
        self.eventually(lambda: not any(place.has_starter() for place in places), 15)

    # ---- users

    def drop(self, name: str, text: str) -> None:
        """mv a task file into pending/."""
        made = Path(self.spool.tmp, f"{name}.{time.monotonic_ns()}")
        made.write_text(text)
        made.rename(Path(self.spool.pending, name))

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
        while not holds():
            assert time.monotonic() < end, self.story()
            time.sleep(0.03)

    def ended(self, *idents: int, seconds: float = 20) -> list[str]:
        """Wait until these jobs are over; their statuses."""
        self.eventually(lambda: all((j := self.job(i)) and not j.live for i in idents), seconds)
        return [self.statuses()[i] for i in idents]

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
        from spool_layout.records import Sealed, decode_events

        files = [*Path(self.spool.events).glob("*.jsonl"), *Path(self.spool.archive).glob("*/*.jsonl")]
        by_epoch = {int(path.stem): path.read_bytes() for path in files}
        seals: dict[int, int] = {}
        for epoch in sorted(by_epoch):
            first = decode_events(by_epoch[epoch])[0][:1]
            if first and isinstance(first[0], Sealed):
                seals.update(first[0].seals)
        return [event for epoch in sorted(by_epoch) for event in decode_events(by_epoch[epoch][: seals.get(epoch)])[0]]


@contextlib.contextmanager
def running(folder: Path, **more: str) -> Iterator[Cluster]:
    """A cluster that is ended with the test."""
    cluster = Cluster(folder, **more)
    try:
        yield cluster
    finally:
        cluster.close()
