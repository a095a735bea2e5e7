"""A log that another host makes while somebody looks for it is seen, on NFS 3 too: its clients remember missing names.

The reader looks without a pause, so that it often looks between the making of the directory and of the log, within one
step of the server's clock; looking by name at once is tried as well, to show that such moments are met.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.nfs.bench import HERE, MOUNT, Bench

pytestmark = pytest.mark.xdist_group("main-3")
LOGS = 20
EACH = 0.3  # seconds from one log to the next: the hosts have one clock, and need not talk
MOMENTS = (0.002, 0.004, 0.006, 0.008)  # seconds from directory to log, in turn, while looking at once
CONTROLS = 24  # tries of looking at once, of which one has to miss a log: on a busy machine most miss the moment
MAKE = """
import os, sys, time
root, count, begin, each = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
moment = float(sys.argv[5])
def spend(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:  # a sleep of this kernel lasts to its next tick, of which the server has as many
        pass
for number in range(count):
    time.sleep(max(0, begin + (number + 0.2) * each - time.time()))  # the schedule of both hosts
    spend(number % 10 * 0.001)
    os.mkdir(f"{root}/{number}")
    spend(moment)
    open(f"{root}/{number}/run.log", "w").close()
open(f"{root}/made", "w").close()
"""
LOOK = """
import sys, time
sys.path.insert(0, sys.argv[6])
from skyspool.logfiles import Folder, Reader
from spool_layout.storage import SharedDisk, insist, length
root, count, begin, each = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
folders, looks, disk = [], [], SharedDisk()
for number in range(count):
    path = f"{root}/{number}/run.log"
    folders.append(Folder(f"{root}/{number}"))
    reader = Reader(path, 0, folders[-1])
    at_once = lambda path=path: insist(path, lambda: length(path)) is not None
    looks.append(reader.is_there if sys.argv[5] == "careful" else at_once)
    time.sleep(max(0, begin + number * each - time.time()))  # the schedule of both hosts
    while not looks[-1]() and time.time() < begin + (number + 0.9) * each:
        time.sleep(0)  # no pause is wanted, so that the moment is met; whoever else is to run may
while not any(entry.name == "made" for entry in disk.list(root)):
    time.sleep(0.1)  # between two looks: NFS tells nobody of a change
for folder in folders:
    folder.over = True
print(sum(not look() for look in looks))
"""


def hidden(bench: Bench, how: str, moment: float = MOMENTS[0]) -> int:
    """How many of LOGS logs made on one host another one has not seen when all was over."""
    root = f"{MOUNT}/{how}"
    bench.run("a", "mkdir", root)
    words = (root, str(LOGS), str(time.time() + 5), str(EACH))
    with ThreadPoolExecutor() as threads:
        made = threads.submit(bench.python, "a", MAKE, *words, str(moment))
        seen = bench.python("b", LOOK, *words, how.partition(".")[0], str(HERE.parent.parent))
        made.result()
    return int(seen)


@pytest.mark.timeout(360)
def test_a_log_that_is_looked_for_while_it_is_made_is_seen() -> None:
    with Bench.up(clients=("a", "b"), version="3") as bench:
        moments = itertools.islice(itertools.cycle(MOMENTS), CONTROLS)
        assert any(hidden(bench, f"at-once.{number}", moment) for number, moment in enumerate(moments))
        assert hidden(bench, "careful") == 0
