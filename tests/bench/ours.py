"""A spool of the bench: settings as `init` writes them, one head, nodes, and how long things take on it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from spool_layout import history, settings
from tests.bench.place import Place
from tests.e2e.cluster import AT_HOME, Cluster

WRITTEN = settings.parse(settings.first_text("any", False).encode(), "init")
AS_SHIPPED = {
    "settle": "2s",
    "lock_heartbeat": f"{WRITTEN.lock_heartbeat:g}s",
    "lock_threshold": f"{WRITTEN.lock_threshold:g}s",
    "heartbeat": f"{WRITTEN.heartbeat:g}s",
    "node_timeout": "30s",
    "fence_margin": "5s",
    "grace": "30s",
    "shell": "login",
}
DURABLE = "every event, fsync"
REST = 1.5  # seconds after which a head has written its ledger and nothing of ours runs beside the others
PATIENCE = 120.0


class Tail:
    """Waits for events in the leading head's file, from now on."""

    def __init__(self, cluster: Cluster) -> None:
        self.file = os.open(cluster.spool.events_of(history.leading(cluster.spool, cluster.disk)), os.O_RDWR)
        self.offset = os.fstat(self.file).st_size

    def until(self, kind: str, count: int, pause: float = 0.002) -> None:
        """Return when so many events of a kind have been written and are durable."""
        end, seen, needle = time.monotonic() + PATIENCE, 0, f'"event":"{kind}"'.encode()
        while seen < count:
            data = os.pread(self.file, 1 << 22, self.offset)
            whole = data.rfind(b"\n") + 1
            self.offset += whole
            seen += data.count(needle, 0, whole)
            if time.monotonic() > end:
                raise TimeoutError(f"{seen} of {count} jobs {kind}")
            if not whole:
                time.sleep(pause)  # between two looks at a file that grows
        os.fsync(self.file)  # the head's own may still be on its way
        os.close(self.file)


class Ours(Cluster):
    """A cluster whose jobs find an empty home, where that can be (a mount namespace, as root)."""

    def __init__(self, folder: Path, **more: str) -> None:
        super().__init__(folder, **{**AS_SHIPPED, **more})
        self.numbers = iter(range(1, 1 << 30))
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0:
            self.owner_at_home()

    @property
    def empty_home(self) -> bool:
        """Whether jobs really have one."""
        return self.host[: len(AT_HOME)] == AT_HOME or not any(Path(pwd.getpwuid(os.getuid()).pw_dir).glob(".bash*"))

    def prepare(self, text: str) -> str:
        """A task file in tmp/; its name."""
        name = f"b{next(self.numbers)}.yaml"
        with open(os.path.join(self.spool.tmp, name), "w") as file:
            file.write(text)
        return name

    def release(self, name: str) -> None:
        """Rename it into pending/."""
        os.rename(os.path.join(self.spool.tmp, name), os.path.join(self.spool.pending, name))

    def batch(self, count: int, run: str = "true", resources: str = "cpus: 1") -> float:
        """Seconds from the first file's making until every job's end is durable."""
        tail = Tail(self)
        began = time.perf_counter()
        for _ in range(count):
            self.release(self.prepare(f"resources: {{{resources}}}\nrun: {json.dumps(run)}\n...\n"))
        tail.until("ended", count)
        return time.perf_counter() - began

    def delay(self, proof: Path) -> float:
        """Seconds from the rename into pending/ to the first instruction of run."""
        name = self.prepare(f"resources: {{cpus: 1}}\nrun: echo $EPOCHREALTIME >{proof}\n...\n")
        tail = Tail(self)
        began = time.time()
        self.release(name)
        tail.until("ended", 1)
        return float(proof.read_text()) - began

    def gaps(self, count: int, folder: Path) -> float:
        """Median seconds between the end of a job and the start of the next one, of a queue on one GPU."""
        self.batch(count, chained(folder), "accelerators: H100:1, cpus: 1")
        return gap(folder)

    def pid(self, key: str) -> int:
        """Of a daemon."""
        return self.processes[key].pid


def chained(folder: Path, pause: float = 0.1) -> str:
    """A command that notes when it began and ended, in a file of its own."""
    return f'began=$EPOCHREALTIME; sleep {pause}; echo "$began $EPOCHREALTIME" >$(mktemp {folder}/XXXXXXXX)'


def gap(folder: Path) -> float:
    """Median seconds between such jobs."""
    times = sorted(tuple(map(float, path.read_text().split())) for path in folder.iterdir())
    return statistics.median(later[0] - earlier[1] for earlier, later in itertools.pairwise(times))


@contextlib.contextmanager
def ours(place: Place, name: str, gpus: str = "none", cpus: float = 2, **more: str) -> Iterator[Ours]:
    """A head and a node that have run a first job; ended and removed at the end."""
    cluster = Ours(place.folder(name), **more)
    try:
        cluster.head().node("n1", gpus=gpus, cpus=cpus).ready().warm()
        time.sleep(REST)
        yield cluster
    finally:
        cluster.close()
