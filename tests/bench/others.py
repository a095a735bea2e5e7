"""What people would use instead, each with two slots, in the words of its own manual.

batch(count)   seconds for so many jobs of `true`, from the first submission to the last end
submit(words)  time at which one job is submitted (its client's own start counts: a person waits for it too)
gaps(...)      as of ours, with one slot
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.figures import say, shown
from tests.bench.ours import PATIENCE, chained, gap
from tests.bench.place import Place, signal_all

HERE = Path(__file__).parent
LIMIT = 5 * PATIENCE  # seconds for a shell script: a server that answers no more costs one contestant


class Other:
    """One of them. missing: the program or distribution without which it is out."""

    name = needs = durability = ""

    def __init__(self, place: Place) -> None:
        self.place, self.folder = place, place.folder(self.name.split()[0])
        self.count = 0

    def start(self) -> None:
        """Whatever serves, if anything does."""

    def stop(self) -> None:
        """End that."""

    def freeze(self, frozen: bool) -> None:
        """Whoever polls must not do so while it is another's turn."""

    def turn(self, run: Callable[[], float]) -> Callable[[], float]:
        """A run of this one, which is frozen before and after."""

        def awake() -> float:
            self.freeze(False)
            try:
                return run()
            finally:
                self.freeze(True)

        return awake

    @abc.abstractmethod
    def batch(self, count: int) -> float:
        """Seconds for so many jobs of `true`."""

    def shell(self, script: str, **more: str) -> float:
        """Seconds that a shell script takes. One that is over the limit is killed, with whatever it waits for."""
        began = time.perf_counter()
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = shell.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not over after {LIMIT:.0f} s: {script}") from None
        finally:
            if shell.returncode is None:
                signal_all(shell, signal.SIGKILL)
                shell.wait()
        if status:
            raise subprocess.CalledProcessError(status, script)
        return time.perf_counter() - began

    def fresh(self) -> Path:
        """A new directory of its own."""
        self.count += 1
        (made := self.folder / f"r{self.count}").mkdir()
        return made


class Submits(Other):
    """One that takes a single job at once."""

    @abc.abstractmethod
    def submit(self, words: list[str]) -> float:
        """Time at which one job was submitted."""

    def delay(self, proof: Path) -> float:
        """Seconds from the submission to the first instruction."""
        began = self.submit(["bash", "-c", f"echo $EPOCHREALTIME >{proof}"])
        end = time.monotonic() + PATIENCE
        while not proof.exists() or not proof.stat().st_size:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not start a job")
            time.sleep(0.001)  # nothing tells when it is there; the time itself is in the file
        return float(proof.read_text()) - began


class Xargs(Other):
    name, needs, durability = "xargs bash", "xargs", "none: no queue"

    def batch(self, count: int) -> float:
        return self.shell(f"seq {count} | xargs -P2 -n1 bash -c true")


class Parallel(Other):
    name, needs, durability = "parallel", "parallel", "none: no queue (a job log, no fsync)"

    def batch(self, count: int) -> float:
        return self.shell(f"seq {count} | parallel --will-cite -j2 -n0 --joblog {self.fresh()}/log true")


class TaskSpooler(Submits):
    name, needs, durability = "task-spooler", "tsp", "none: a server's memory"

    def start(self) -> None:
        os.environ["TS_SOCKET"] = str(self.folder / "socket")
        self.shell("tsp -S 2")

    def stop(self) -> None:
        self.shell("tsp -K")

    def batch(self, count: int) -> float:
        took = self.shell(f"for ((i = 0; i < {count}; i++)); do tsp true; done; tsp -w")
        self.shell("tsp -C; rm -f $TMPDIR/ts-out.*")
        return took

    def submit(self, words: list[str]) -> float:
        began = time.time()
        subprocess.run(["tsp", *words], stdout=subprocess.DEVNULL, check=True)
        return began

    def gaps(self, count: int, folder: Path) -> float:
        script = self.folder / "job.sh"
        script.write_text(chained(folder) + "\n")
        self.shell(f"tsp -S 1; for ((i = 0; i < {count}; i++)); do tsp bash {script}; done; tsp -w; tsp -S 2")
        return gap(folder)


class Nq(Submits):
    name, needs, durability = "nq", "nq", "files and locks, no fsync"

    def batch(self, count: int) -> float:
        one, two = self.fresh(), self.fresh()  # a queue has one slot
        each = f"NQDIR={one} nq -q true; NQDIR={two} nq -q true"
        took = self.shell(
            f"for ((i = 0; i < {count // 2}; i++)); do {each}; done; NQDIR={one} nq -w; NQDIR={two} nq -w"
        )
        shutil.rmtree(one)
        shutil.rmtree(two)
        return took

    def submit(self, words: list[str]) -> float:
        began = time.time()
        subprocess.run(["nq", "-q", *words], check=True, env={**os.environ, "NQDIR": str(self.fresh())})
        return began

    def gaps(self, count: int, folder: Path) -> float:
        script = self.folder / "job.sh"
        script.write_text(chained(folder) + "\n")
        self.shell(f"for ((i = 0; i < {count}; i++)); do nq -q bash {script}; done; nq -w", NQDIR=str(self.fresh()))
        return gap(folder)


class Guest(Submits):
    """One that is a Python library: guest_NAME.py, run by the venv's Python, takes orders in lines of JSON."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.serving: list[subprocess.Popen[str]] = []
        self.said = self.folder / "stderr"

    def start(self) -> None:
        script = HERE / f"guest_{self.name.split()[0]}.py"
        self.guest = self.place.start([str(self.place.venv / "bin/python"), str(script), str(self.folder)], self.said)
        self.serving.append(self.guest)

    def freeze(self, frozen: bool) -> None:
        for process in self.serving:
            signal_all(process, signal.SIGSTOP if frozen else signal.SIGCONT)

    def order(self, count: int, words: list[str]) -> tuple[float, float]:
        """(time of submission, seconds until all are over). RuntimeError with its last words, where it ended."""
        end = threading.Timer(2 * PATIENCE, self.guest.kill)  # for one that never answers: this contestant is out
        end.start()
        try:
            answer = self.answer(json.dumps([count, words]))
        finally:
            end.cancel()
        if not answer:
            last = self.said.read_text(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"it ended with {self.guest.wait(PATIENCE)}: {last or 'no word'}")
        began, took = json.loads(answer)
        return began, took

    def answer(self, order: str) -> str:
        """A guest's line for a line; "" where it is no more."""
        assert self.guest.stdin is not None and self.guest.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.guest.stdin.write(order + "\n")
            self.guest.stdin.flush()
        return next((line for line in self.guest.stdout if line.startswith("[")), "")  # others are a library's own

    def batch(self, count: int) -> float:
        return self.order(count, ["true"])[1]

    def submit(self, words: list[str]) -> float:
        return self.order(1, words)[0]


class Huey(Guest):
    name, needs, durability = "huey", "huey", "files, no fsync"

    def start(self) -> None:
        (queue := self.folder / "queue").mkdir()  # both make what is missing, and one of them would fail
        variables = {"PYTHONPATH": str(HERE), "BENCH_HUEY": str(queue)}
        os.environ.update(variables)
        polling = ["-d", "0.002", "-m", "0.002"]  # seconds; by default it looks every 0.1 to 10
        consumer = str(self.place.venv / "bin/huey_consumer")
        words = [consumer, "guest_huey.huey", "-w", "2", "-k", "process", "-q", *polling]
        self.serving.append(self.place.start(words))
        super().start()


class HyperQueue(Guest):
    name, needs, durability = "hyperqueue", "hyperqueue", "none: a server's memory"

    def freeze(self, frozen: bool) -> None:
        """Never: it waits for events, and its server gives up a worker that has not beaten for some seconds."""


class Slurm(Submits):
    """One controller and one node of two CPUs, with munge; each on ports and sockets of its own, as root."""

    name, needs, durability = "slurm", "slurmctld", "state files, every few seconds"
    LESS = 50  # so many times fewer jobs: it looks for what could start once a second

    def start(self) -> None:
        host, (controller, node) = platform.node(), free_ports(2)
        key, munge = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        own = {what: self.folder / f"munge.{what}" for what in ("pid", "log", "seed")}
        self.place.start(
            ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}"]
            + [f"--{what}-file={path}" for what, path in own.items()]
        )
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        conf = self.folder / "slurm.conf"
        conf.write_text(
            f"ClusterName=bench\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n"
            f"AuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket={munge}\n"
            f"SlurmctldPort={controller}\nSlurmdPort={node}\nReturnToService=2\nMpiDefault=none\n"
            f"StateSaveLocation={self.folder}/state\nSlurmdSpoolDir={self.folder}/spool\n"
            f"SlurmctldPidFile={self.folder}/controller.pid\nSlurmdPidFile={self.folder}/node.pid\n"
            f"SlurmctldLogFile={self.folder}/controller.log\nSlurmdLogFile={self.folder}/node.log\n"
            "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n"
            "SelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\n"
            "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0\nCompleteWait=0\n"
            f"NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN\n"
            "PartitionName=all Nodes=n1 Default=YES MaxTime=INFINITE State=UP\n"
        )
        os.environ["SLURM_CONF"] = str(conf)
        self.await_true(munge.exists)
        self.place.start(["slurmctld", "-D", "-f", str(conf)])
        self.place.start(["slurmd", "-D", "-N", "n1", "-f", str(conf)])
        self.await_true(lambda: self.says("sinfo", "-h", "-o", "%T") == "idle")

    def says(self, *words: str) -> str:
        """What a command of it prints; "" while it cannot tell."""
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()

    def await_true(self, holds: Callable[[], object]) -> None:
        """TimeoutError where something does not come true."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError("slurm does not do its part")
            time.sleep(0.005)  # it tells nobody; a look at a small file costs nothing beside it

    def batch(self, count: int) -> float:
        fewer, proof = max(1, count // self.LESS), self.fresh() / "over"
        began = time.time()  # true, and the note of when it ran: `sbatch --wait` looks every few seconds only
        self.wrap(f"true; echo $EPOCHREALTIME >>{proof}", f"--array=1-{fewer}")
        self.await_true(lambda: proof.exists() and len(proof.read_text().split()) == fewer)
        self.await_true(lambda: not self.says("squeue", "-h"))
        return (max(map(float, proof.read_text().split())) - began) * count / fewer

    def wrap(self, script: str, *options: str) -> None:
        """Submit a script."""
        words = ["sbatch", "-Q", "-o", "/dev/null", *options]
        subprocess.run(words, input=f"#!/bin/bash\n{script}\n", text=True, check=True, stdout=subprocess.DEVNULL)

    def submit(self, words: list[str]) -> float:
        began = time.time()
        self.wrap(shlex.join(words))
        return began

    def gaps(self, count: int, folder: Path) -> float:
        for _ in range(count):
            self.wrap(chained(folder), "-c", "2")
        self.await_true(lambda: len([path for path in folder.iterdir() if path.stat().st_size]) == count)
        return gap(folder)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


ALL: tuple[type[Other], ...] = (Xargs, TaskSpooler, Nq, Parallel, Huey, HyperQueue, Slurm)


@contextlib.contextmanager
def others(place: Place, kinds: tuple[type[Other], ...] = ALL) -> Iterator[tuple[list[Other], dict[str, str]]]:
    """Those that can be had, started, and why not the rest."""
    place.fetch()
    missing = {kind.name: place.missing[kind.needs] for kind in kinds if kind.needs in place.missing}
    wanted = [kind(place) for kind in kinds if kind.name not in missing]
    try:
        yield [other for other in wanted if begun(other, missing)], missing
    finally:
        for other in wanted:
            with contextlib.suppress(OSError, subprocess.SubprocessError):  # what is begun by `start` is ended below
                other.stop()
        place.close()
        for other in wanted:
            shutil.rmtree(other.folder, ignore_errors=True)


def begun(other: Other, missing: dict[str, str]) -> bool:
    """Start one of them and let it warm up. False, and why in missing: it could not."""
    try:
        other.start()
        other.turn(lambda: other.batch(4))()
    except Exception as error:
        say(f"{other.name} is out: {error!r}")
        missing[other.name] = f"did not start: {shown(error)}"
        return False
    return True
