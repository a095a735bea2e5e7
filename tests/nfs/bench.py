"""A bench: a file server and some clients of it, each a small machine of its own, that share one real NFS mount.

    with Bench.up(clients=("a", "b"), version="3") as bench:
        bench.run("a", "touch", "/mnt/nfs/x")
        assert bench.run("b", "ls", "/mnt/nfs") == "x\\n"
        bench.cut("b")

Each machine is a User-Mode Linux kernel, an ordinary process: neither root nor NFS in this host's kernel is needed, and
several benches run side by side. Client and server are the kernel's own code: real caches, real locks, real
retransmission. `server` runs the kernel's NFS server on a disk image; the clients mount it at /mnt/nfs. A machine sees
this host's files, read-only, at the same paths; /tmp, /run, /mnt, /var/tmp and /dev/shm are its own.

Booting takes 5 to 7 seconds. Everything is ended with the `with`, and also when this process is killed (switch.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.nfs.machine import Machine
from tests.nfs.monitor import ask
from tests.nfs.switch import CONTROL

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
MOUNT = "/mnt/nfs"
SERVER = "server"
SUBNET = "10.77.0."
HOME = "/tmp/home"  # of whatever runs on a machine: without anybody's ~/.bashrc
SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = {
    "linux.uml": "user-mode-linux",
    "modprobe": "kmod",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mount.nfs": "nfs-common",
    "rpcbind": "rpcbind",
    "rpc.nfsd": "nfs-kernel-server",
}
PYTHON_ALONE = 0.25  # seconds that a python takes to start and end on a machine that is alone on two cores
GONE = 255  # the exit code of a command whose machine was killed


def missing_packages() -> list[str]:
    """Debian packages that must be installed before a bench can be booted."""
    return [package for program, package in NEEDED.items() if not shutil.which(program, path=SBIN)]


class Command:
    """A command on a machine, while it runs and after."""

    def __init__(self, bench: Bench, machine: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.bench, self.machine, self.words = bench, machine, words
        self.code: int | None = None
        self.boot = bench.machines[machine].boots
        bench.commands += 1
        self.base = bench.folder / machine / f"{bench.commands:06}"
        asked = {"words": list(words), "cwd": "/", "environment": dict(environment)}
        self._put("command", json.dumps(asked))

    def _put(self, kind: str, text: str) -> None:
        part = self.base.with_suffix(".asked")
        part.write_text(text)
        part.rename(self.base.with_suffix(f".{kind}"))
        self.bench.machines[self.machine].ring()

    def _said(self, kind: str) -> str:
        try:
            return self.base.with_suffix(f".{kind}").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def out(self) -> str:
        """What it wrote to its standard output so far."""
        return self._said("out")

    @property
    def err(self) -> str:
        """What it wrote to its standard error so far."""
        return self._said("err")

    def poll(self) -> int | None:
        """Its exit code (128 + N for signal N; 255 where its machine was killed), or None while it runs."""
        if self.code is None:
            if status := self._said("status"):
                self.code = int(status)
            elif self.is_gone():
                self.code = GONE
        return self.code

    def is_gone(self) -> bool:
        """Whether its machine was killed, and perhaps booted again, since."""
        machine = self.bench.machines[self.machine]
        return machine.pid is None or machine.boots != self.boot

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end. AssertionError with what it said when that takes too long."""
        eventually(lambda: self.poll() is not None, seconds, self.story)
        assert self.code is not None
        return self.code

    def story(self) -> str:
        """What it said, and what the machine does meanwhile."""
        left = [path.name for path in self.base.parent.glob(f"{self.base.name}.*")]
        said = f"{self.words} on {self.machine}: {left}\n{self.out}\n{self.err}"
        return f"{said}\n{self.bench.blocked(self.machine)}"

    def signal(self, number: int) -> None:
        """Signal its process group."""
        self._put("signal", str(int(number)))
        eventually(lambda: not self.base.with_suffix(".signal").exists() or self.poll() is not None, 20)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            self.wait()


class Bench:
    """A server and its clients. Made by `up`."""

    def __init__(
        self,
        clients: Sequence[str] = ("a", "b"),
        version: str = "4.2",
        options: str = "",
        lease: int = 10,
        skew: Mapping[str, float] | None = None,
        disk_mib: int = 512,
        memory: str = "256M",
    ) -> None:
        """options: added to the clients' mount options. lease: of the server, and its grace time, seconds (a kernel's
        default is 90). skew: machine -> seconds by which its clock is off."""
        self.version, self.options, self.lease, self.skew, self.memory = version, options, lease, skew or {}, memory
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 << 30 else None
        self.folder = Path(tempfile.mkdtemp(prefix="skyspool-nfs-", dir=base))
        self.machines = {name: Machine(self.folder, name) for name in (SERVER, *clients)}
        self.clients = list(clients)
        self.commands = 0
        with (self.folder / "disk.img").open("wb") as disk:
            disk.truncate(disk_mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.folder / "disk.img"], check=True, env={"PATH": SBIN})
        self.switch = subprocess.Popen(
            [sys.executable, str(HERE / "switch.py"), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": SBIN, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    @classmethod
    @contextlib.contextmanager
    def up(cls, *arguments: Any, **options: Any) -> Iterator[Bench]:
        """A bench whose machines are all ready, ended with the `with`."""
        bench = cls(*arguments, **options)
        try:
            eventually((bench.folder / CONTROL).exists, 20)
            bench.boot(*bench.machines)
            yield bench
        finally:
            bench.close()

    def close(self) -> None:
        """End everything, remove the folder."""
        assert self.switch.stdin
        self.switch.stdin.close()  # which it takes as the sign to end all
        self.switch.wait(20)
        for machine in self.machines.values():
            machine.reap()

    # ---- machines

    def boot(self, *names: str, seconds: float = 90) -> None:
        """Boot machines that are off, and wait until they are ready (a client: until it has mounted)."""
        for name in names:
            self.power_on(name)
        for name in names:
            eventually(lambda name=name: self.is_ready(name), seconds, lambda name=name: self.log(name))

    def power_on(self, name: str) -> None:
        """Begin to boot a machine."""
        machine = self.machines[name]
        assert machine.pid is None, f"{name} is on"
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for stale in (self.folder / f"{name}.sock", self.folder / "uml" / name / "pid"):
            stale.unlink(missing_ok=True)
        (folder / "settings").write_text("".join(f"{k}='{v}'\n" for k, v in self._settings(name).items()))
        machine.start(self._kernel(name, folder), {"PATH": SBIN, "TMPDIR": str(self.folder)})

    def _settings(self, name: str) -> dict[str, object]:
        return {
            "NAME": name,
            "ADDRESS": self.address(name),
            "HOSTS": " ".join(self.machines),
            "SUBNET": SUBNET,
            "VERSION": self.version,
            "OPTIONS": self.options,
            "LEASE": self.lease,
            "SKEW": self.skew.get(name, 0),
            "PYTHON": sys.executable,
        }

    def _kernel(self, name: str, folder: Path) -> list[str]:
        number = list(self.machines).index(name) + 1
        wire = f"vec0:transport=bess,dst=switch.sock,src={name}.sock,depth=128,gro=0,mac=52:54:00:77:00:{number:02x}"
        quiet = ["con=null", "con0=null,fd:1", *(f"ssl{line}=null" for line in range(1, 16))]
        disk = ["ubd0=disk.img"] if name == SERVER else []
        root = ["root=none", "rootfstype=hostfs", "rootflags=/", "ro"]
        init = [f"init={HERE}/machine_init.sh", f"bench={folder}"]
        tools = [f"uml_dir={self.folder}/uml", f"umid={name}"]
        return ["linux.uml", f"mem={self.memory}", *root, *init, *tools, *quiet, wire, *disk]

    def is_ready(self, name: str) -> bool:
        """Whether a machine takes commands. AssertionError if it stopped while it booted."""
        assert self.machines[name].pid is not None, f"{name} stopped while it booted:\n{self.log(name)}"
        return (self.folder / name / "ready").exists()

    def address(self, name: str) -> str:
        """The IP address of a machine."""
        return f"{SUBNET}{list(self.machines).index(name) + 1}"

    def log(self, name: str, lines: int = 30) -> str:
        """The end of what a machine's kernel said."""
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def blocked(self, name: str) -> str:
        """What waits in a machine's kernel, and the end of what the kernel said."""
        console = self.folder / "uml" / name / "mconsole"
        said = [ask(console, command) for command in ("sysrq w", "stack 1", "proc meminfo")]
        return "\n".join([*said, self.log(name, 100)])

    def kill(self, name: str) -> None:
        """Power a machine off at once."""
        self.machines[name].kill()

    def mount_again(self, options: str) -> None:
        """Mount with other options, on every client. What still runs there keeps its old mount."""
        self.options = options
        given = ",".join(filter(None, [f"vers={self.version}", options]))
        path = MOUNT if self.version == "3" else "/"
        for name in self.clients:
            self.run(name, "sh", "-c", f"umount -l {MOUNT} && mount -t nfs -o {given} {SERVER}:{path} {MOUNT}")

    def freeze(self, name: str) -> None:
        """Stop a machine's processor; its clocks go on, as those of a virtual machine that is paused."""
        self.machines[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen machine go on."""
        self.machines[name].signal(signal.SIGCONT)

    def cut(self, name: str) -> None:
        """Take a machine off the network."""
        self._tell_switch(f"cut {name}")

    def heal(self, name: str) -> None:
        """Put it back."""
        self._tell_switch(f"heal {name}")

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A machine is frozen for as long as this lasts."""
        self.freeze(name)
        try:
            yield
        finally:
            self.thaw(name)

    @contextlib.contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """A machine is off the network for as long as this lasts."""
        self.cut(name)
        try:
            yield
        finally:
            self.heal(name)

    @contextlib.contextmanager
    def off(self, name: str) -> Iterator[None]:
        """A machine is killed, and boots again after this."""
        self.kill(name)
        try:
            yield
        finally:
            self.boot(name)

    def _tell_switch(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.sendto(text.encode(), str(self.folder / CONTROL))

    # ---- commands

    def begin(self, machine: str, *words: str, **environment: str) -> Command:
        """Start a command on a machine, in / and with a clean environment."""
        base = {"PATH": SBIN, "HOME": HOME, "LANG": "C.UTF-8", "PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"}
        return Command(self, machine, words, {**base, **environment})

    def run(self, machine: str, *words: str, check: int | None = 0, seconds: float = 60, **environment: str) -> str:
        """Run a command on a machine to its end: what it printed. check: the exit code expected; None: any."""
        command = self.begin(machine, *words, **environment)
        code = command.wait(seconds)
        said = command.out, command.err
        assert check is None or code == check, f"{words} on {machine} ended with {code}:\n{said[0]}\n{said[1]}"
        return said[0]

    def slowness(self, machine: str) -> float:
        """How many times slower a machine is just now than alone on an idle host, at least 1."""
        began = time.monotonic()
        self.python(machine, "pass")
        return max(1.0, (time.monotonic() - began) / PYTHON_ALONE)

    def ahead(self, machine: str) -> float:
        """Seconds by which a machine's clock is ahead of this host's: each has been set when it booted, and on a busy
        host they differ by tenths. Told by the time of the file on this host into which the machine writes its own."""
        told = []
        for _ in range(3):
            command = self.begin(machine, "bash", "-c", 'echo "$EPOCHREALTIME"')
            command.wait()
            told.append(float(command.out) - command.base.with_suffix(".out").stat().st_mtime)
        return max(told)  # what was written at once

    def python(self, machine: str, program: str, *words: str, seconds: float = 60) -> str:
        """Run a Python program on a machine: what it printed."""
        return self.run(machine, sys.executable, "-c", program, *words, seconds=seconds)


def eventually(holds: Callable[[], object], seconds: float, story: Callable[[], str] = str, look: float = 0.02) -> None:
    """Wait until something holds; AssertionError with the story if it does not in time. look: seconds between looks."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s\n{story()}"
        time.sleep(look)
