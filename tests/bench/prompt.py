"""What a person waits for at the prompt, beside a start of the bare interpreter: `python -c pass` of the same venv.

That is one in which skyspool is installed as people do it: what a venv for development holds besides, msgspec imports
too (typing_extensions and with it inspect, 3 ms).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import OURS, Figure, contest, say, shown
from tests.bench.filled import Filler
from tests.bench.others import LIMIT, Other, TaskSpooler, others
from tests.bench.ours import Ours
from tests.bench.place import Place

FINISHED, PENDING = 10_000, 1_000
WAITING = 900  # in task-spooler: its server waits with select() for them all, which knows 1,024 files
REPEATS = 5  # of each command in a round, of which the median counts
BARE = "python -c pass"
ROOT = Path(__file__).parents[2]
SUBMIT = ROOT / "contrib/spool-submit.sh"


def prompt(place: Place, rounds: int, finished: int = FINISHED, others_too: bool = True) -> list[Figure]:
    """Commands on a spool with a past, and a head that leads."""
    programs = installed(place)
    cluster = Ours(place.folder(f"prompt{finished}"), max_pending="0")
    Filler(cluster).finished(finished, logs=finished > FINISHED).pending(PENDING).done()
    try:
        figures = [dead_head(cluster, programs, rounds)]
        cluster.head().ready()
        cluster.eventually(
            lambda: len(list(Path(cluster.spool.events).glob("*.jsonl"))) == 1
        )  # the past is packed away
        figures += [measured(cluster, programs, *command, rounds) for command in commands(cluster, programs)]
    finally:
        cluster.close()
    return figures + ([listing(place, figures[1].values[OURS], rounds)] if others_too else [])


def installed(place: Place) -> Path:
    """Where skyspool and python are: in the venv of the others, else in our own."""
    if place.pip(str(ROOT)):
        return place.venv / "bin"
    say("  pip could not install skyspool: measured in the venv for development")
    return Path(sys.executable).parent


def commands(cluster: Ours, programs: Path) -> list[tuple[str, list[str], str]]:
    """What is typed, as a title, words and a goal."""
    skyspool = str(programs / "skyspool")
    task = cluster.folder / "task.yaml"
    task.write_text("run: 'true'\n...\n")
    name = cluster.name
    table = [
        ("skyspool queue", [skyspool, "queue", name], "≤ 6 × bare"),
        ("skyspool queue -o json", [skyspool, "queue", name, "-o", "json"], "≤ 6 × bare"),
        ("skyspool exec -d --no-wait", [skyspool, "exec", name, "-d", "--no-wait", str(task)], "≤ 8 × bare"),
    ]
    if SUBMIT.exists():
        table.append(("contrib/spool-submit.sh", [str(SUBMIT), cluster.spool.root, str(task)], "≤ 10 ms"))
    return table


def measured(cluster: Ours, programs: Path, title: str, words: list[str], goal: str, rounds: int) -> Figure:
    """One command, paired with the bare interpreter."""
    bare = [str(programs / "python"), "-c", "pass"]
    runs: dict[str, Callable[[], float]] = {OURS: lambda: takes(cluster, words), BARE: lambda: takes(cluster, bare)}
    return Figure(title, "ms", "low", contest(rounds, runs), goal)


def dead_head(cluster: Ours, programs: Path, rounds: int) -> Figure:
    """`queue` where the head that wrote all that is gone: its own events are not packed away yet."""
    words = [str(programs / "skyspool"), "queue", cluster.name]
    return measured(cluster, programs, "skyspool queue, after one long epoch", words, "", rounds)


def takes(cluster: Ours, words: list[str], repeats: int = REPEATS) -> float:
    """Median milliseconds of a command."""
    times = []
    env = {**os.environ, "HOME": str(cluster.home), "COLUMNS": "80"}
    for _ in range(repeats):
        began = time.perf_counter()
        ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, cwd=cluster.folder, env=env)
        times.append(1000 * (time.perf_counter() - began))
        if ran.returncode:
            raise RuntimeError(f"{words} ended with {ran.returncode}: {ran.stderr.decode()[-300:]}")
    return statistics.median(times)


def listing(place: Place, ours: list[float], rounds: int) -> Figure:
    """task-spooler's list of as many jobs. Ours are the values of `queue` above: not paired."""
    title = f"queue beside tsp's list, {FINISHED:,} finished, {PENDING:,} pending"
    note = f"task-spooler has {WAITING} pending: it can hold no more than some 990"
    with others(place, (TaskSpooler,)) as (rivals, missing):
        figure = Figure(title, "ms", "low", {OURS: ours}, "less than task-spooler's list", note, missing=missing)
        for spooler in rivals:
            try:
                figure.values[spooler.name] = lists(spooler, rounds)
            except Exception as error:
                say(f"{spooler.name} is out: {error!r}")
                missing[spooler.name] = shown(error)
    return figure


def lists(spooler: Other, rounds: int) -> list[float]:
    """Milliseconds of task-spooler's list with as many jobs as it can hold."""
    more = {"TS_MAXFINISHED": str(2 * FINISHED), "TS_MAXCONN": "4000"}
    spooler.shell("tsp -K")
    spooler.shell(f"tsp -S 2; for ((i = 0; i < {FINISHED}; i++)); do tsp -n true; done; tsp -w", **more)
    runs = spooler.folder / "runs"
    first = f"tsp -S 1; tsp -n bash -c 'echo $$ >{runs}; exec sleep 1000'"
    try:
        spooler.shell(f"{first}; for ((i = 0; i < {WAITING}; i++)); do tsp -n true; done", **more)
        return [list_once(spooler.folder) for _ in range(rounds)]
    finally:  # its server does not end what runs
        spooler.shell(f"kill $(<{runs}); tsp -C; tsp -K")


def list_once(folder: Path) -> float:
    """Milliseconds of `tsp`."""
    began = time.perf_counter()
    subprocess.run([shutil.which("tsp") or "tsp"], stdout=subprocess.DEVNULL, check=True, cwd=folder, timeout=LIMIT)
    return 1000 * (time.perf_counter() - began)
