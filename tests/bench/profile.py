"""Flame graphs (SVG) of head, runner, starter and client under load, by py-spy.

    python -m tests.bench.profile [--out build/profile] [--jobs 3000] [--tools DIR]

The daemons are watched while jobs of `true` are dropped and run on two slots; the client lists 10,000 finished and
1,000 waiting jobs, and submits. py-spy reads other processes' memory: as root, or where ptrace is allowed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures import say
from tests.bench.filled import Filler
from tests.bench.ours import Ours, ours
from tests.bench.place import Place, place
from tests.bench.prompt import FINISHED, PENDING

SKYSPOOL = str(Path(sys.executable).with_name("skyspool"))
RATE, RATE_OF_CLIENT = 250, 2000  # samples a second: a client lives for a tenth of one


def watch(here: Place, pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Record a process until SIGINT."""
    words = [str(here.venv / "bin/py-spy"), "record", "-r", str(RATE), "-o", str(file), "-p", str(pid), "-d", "3600"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def daemons(here: Place, out: Path, jobs: int) -> None:
    """Head, runner and starter, while jobs run."""
    with ours(here, "profile") as cluster:
        cluster.batch(20)
        pids = {"head": cluster.pid("head"), "runner": cluster.pid("n1"), **starter(cluster)}
        watchers = [watch(here, pid, out / f"{role}.svg") for role, pid in pids.items()]
        time.sleep(1)  # py-spy does not say when it has attached
        took = cluster.batch(jobs)
        say(f"{jobs} jobs while watched: {jobs / took:.0f}/s")
        for watcher in watchers:
            watcher.send_signal(signal.SIGINT)
            watcher.wait(60)


def starter(cluster: Ours) -> dict[str, int]:
    """The node's starter, if it lives."""
    pids = cluster.starters()
    return {"starter": pids["n1"]} if "n1" in pids else {}


def client(here: Place, out: Path) -> None:
    """`queue` and `exec`, one start each."""
    cluster = Ours(here.folder("client"), max_pending="0")
    Filler(cluster).finished(FINISHED).pending(PENDING).done()
    task = cluster.folder / "task.yaml"
    task.write_text("run: 'true'\n...\n")
    verbs = {"queue": ["queue", cluster.name], "exec": ["exec", cluster.name, "-d", "--no-wait", str(task)]}
    py_spy = [str(here.venv / "bin/py-spy"), "record", "-r", str(RATE_OF_CLIENT)]
    for verb, words in verbs.items():
        subprocess.run(
            [*py_spy, "-o", str(out / f"client-{verb}.svg"), "--", SKYSPOOL, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(cluster.home)},
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/profile"))
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--tools", type=Path)
    chosen = parser.parse_args()
    out = chosen.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with place(chosen.tools) as here:
        if not (here.venv / "bin/py-spy").exists() and not here.pip("py-spy"):
            sys.exit("pip could not install py-spy")
        daemons(here, out, chosen.jobs)
        client(here, out)
    for file in sorted(out.glob("*.svg")):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
