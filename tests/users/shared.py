"""A spool of several users: made by `skyspool init --users multi` as root, with real daemons that root starts, and real
users who call the real client, put files there themselves, and try what they should not."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from spool_layout.paths import Spool
from spool_layout.storage import Disk
from tests.e2e.cluster import QUICK, SPOOLS, Cluster
from tests.users.accounts import Accounts, User

NAME = "shared"


class Shared(Cluster):
    """The spool, its daemons, and what users do. What Cluster does to the spool directly is done as root."""

    def __init__(self, accounts: Accounts, **more: str) -> None:
        self.accounts, self.folder, self.name = accounts, accounts.folder, NAME
        self.spool, self.disk = Spool(self.folder / "spool"), Disk()
        SPOOLS.append(self.spool.root)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.gates, self.host = [], []
        self.home = self.folder / "roots-home"
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.root_says("init", self.spool.root, "--name", NAME, "--users", "multi", "--owner", accounts.owner.name)
        with open(self.spool.settings, "r+", encoding="utf-8") as file:
            lines = [line for line in file if line.split(":")[0] not in {**QUICK, **more}]
            file.seek(0)
            file.truncate()
            file.writelines([*lines, *(f"{key}: {value}\n" for key, value in {**QUICK, **more}.items())])

    def spoold(self, *words: str) -> list[str]:
        """The command line of a daemon, by an interpreter that everybody may run."""
        state = str(self.folder / "state")
        return [self.accounts.python, "-m", "spoold", words[0], self.spool.root, "--state", state, *words[1:]]

    def start(self, key: str, *words: str) -> None:
        """A daemon, by a root who is in a group more: nothing of that may reach anybody's job."""
        before = os.getgroups()
        os.setgroups([*before, self.accounts.roots])
        try:
            super().start(key, *words)
        finally:
            os.setgroups(before)

    def root_says(self, *words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
        """The client as root."""
        done = subprocess.run(
            [self.accounts.python, "-m", "skyspool", *words],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], "COLUMNS": "100"},
        )
        assert done.returncode == check, done.stdout + done.stderr
        return done

    def says(
        self, user: User, *words: str, check: int | None = 0, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The client as a user. check: the exit code that is expected; None: any."""
        done = self.does(user, self.accounts.python, "-m", "skyspool", *words, stdin=stdin, env=env)
        if check is not None:
            assert done.returncode == check, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def does(
        self, user: User, *words: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Any command as a user, in the user's home."""
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
            cwd=user.home if user.home.is_dir() else "/",
            user=user.uid,
            group=user.gid,
            extra_groups=[user.gid],
            umask=0o022,
            env={
                "HOME": str(user.home),
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "COLUMNS": "100",
                "SKYSPOOL_DIR": self.spool.root,
                **(env or {}),
            },
        )

    def script(self, user: User, text: str) -> subprocess.CompletedProcess[str]:
        """A shell script as a user; it must end with 0. $S is the spool."""
        done = self.does(user, "sh", "-euc", text, env={"S": self.spool.root})
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def refused(self, user: User, *commands: str) -> None:
        """Shell commands as a user, each of which must fail. `! command` in a script would not: -e passes it over."""
        told = [
            f"if ( {command} ); then echo {shlex.quote(f'could: {command}')} >&2; exit 1; fi" for command in commands
        ]
        self.script(user, "\n".join(told))

    def submits(self, user: User, task: str, name: str = "job", verb: str = "exec") -> int:
        """A task file in the user's home, submitted with the client. Its ID. verb: `launch`, where setup matters."""
        path = user.home / f"{name}.yaml"
        path.write_text(task)
        os.chown(path, user.uid, user.gid)
        return int(self.says(user, verb, "-d", str(path)).stdout.rpartition("ID: ")[2])

    def output(self, ident: int) -> str:
        """What a job printed, as root reads it."""
        return Path(self.spool.log_dir(ident), "run.log").read_text()

    def end_everything(self) -> None:
        """Jobs too: their processes are killed by their users' IDs, which are this run's alone."""
        for gate in self.gates:
            gate.open()
        for key in list(self.processes):
            self.kill(key, signal.SIGTERM)
        self.end_starters()
        for user in (self.accounts.alice, self.accounts.bob, self.accounts.owner):
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if user.uid in map(int, (entry / "status").read_text().split("Uid:")[1].split()[:4]):
                        os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def shared(accounts: Accounts, **more: str) -> Iterator[Shared]:
    """A spool that is ended with the test."""
    made = Shared(accounts, **more)
    try:
        yield made
    finally:
        made.end_everything()


def start(spool: Shared, user: User, commands: str, name: str) -> int:
    """A job that runs, by the client. Its ID."""
    ident = spool.submits(user, f"run: |\n  {commands}\n", name)
    spool.runs(ident)
    return ident
