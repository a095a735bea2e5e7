"""A log that another host makes while somebody looks for it is seen, on NFS 3 too: its clients remember missing names.

Looking by name at once misses it where the directory and the log are made within one step of the server's clock. The
first test makes that so for sure, by setting this clock; in the second the hosts meet such moments or not, as they do.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.nfs.bench import HERE, MOUNT, Bench

pytestmark = pytest.mark.xdist_group("main-3")
LOGS = 20
EACH = 0.3  # seconds from one log to the next: the hosts have one clock, and need not talk
MOMENT = 0.002  # seconds from directory to log
READERS = """
from skyspool.logfiles import Folder, Reader
from spool_layout.stamps import SharedDisk
from spool_layout.storage import insist, length
disk, folders = SharedDisk(), []
def reader(how, folder):
    "A function that looks once for a log: whether it is there."
    path = f"{folder}/run.log"
    folders.append(Folder(folder))
    careful = Reader(path, 0, folders[-1])
    return careful.is_there if how == "careful" else lambda: insist(path, lambda: length(path)) is not None
def wait_for(root, name):
    while not any(entry.name == name for entry in disk.list(root)):
        time.sleep(0.1)  # between two looks: NFS tells nobody of a change
"""
MAKE_IN_ONE_STEP = """
import os, sys, time
root, count = sys.argv[1], int(sys.argv[2])
folders = []
def set_back(moment, make):
    "Make something at a moment (ns) of the server's clock, which goes right again at once."
    began, real = time.monotonic_ns(), time.time_ns()
    time.clock_settime_ns(time.CLOCK_REALTIME, moment)
    make()
    time.clock_settime_ns(time.CLOCK_REALTIME, real + time.monotonic_ns() - began)
def stamp(folder):
    return os.stat(folder).st_ctime_ns
while len(folders) < count:
    folder, moment = f"{root}/{len(folders)}", time.time_ns()
    set_back(moment, lambda: os.mkdir(folder))
    if stamp(folder) == moment:
        folders.append(folder)
    else:  # the clock's next step came in between
        os.rmdir(folder)
open(f"{root}/folders", "w").close()
while not os.path.exists(f"{root}/looked"):
    time.sleep(0.01)  # between two looks: a server is told of nothing by its clients
unmoved = 0
for folder in folders:
    before = stamp(folder)
    set_back(before, lambda: open(f"{folder}/run.log", "w").close())
    unmoved += stamp(folder) == before
open(f"{root}/made", "w").close()
print(unmoved)
"""
LOOK_ONCE_BEFORE = """
import sys, time
sys.path.insert(0, sys.argv[4])
READERS
root, count = sys.argv[1], int(sys.argv[2])
wait_for(root, "folders")
looks = [reader(sys.argv[3], f"{root}/{number}") for number in range(count)]
assert not any(look() for look in looks)
open(f"{root}/looked", "w").close()
wait_for(root, "made")
end = time.monotonic() + 3
while not all([look() for look in looks]) and time.monotonic() < end:
    time.sleep(0.1)  # between two looks, as `logs` makes them: NFS tells nobody of a change
print(sum(not look() for look in looks))
""".replace("READERS", READERS)
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
sys.path.insert(0, sys.argv[5])
READERS
root, count, begin, each = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
looks = []
for number in range(count):
    looks.append(reader("careful", f"{root}/{number}"))
    time.sleep(max(0, begin + number * each - time.time()))  # the schedule of both hosts
    while not looks[-1]() and time.time() < begin + (number + 0.9) * each:
        time.sleep(0)  # no pause is wanted, so that the moment is met; whoever else is to run may
wait_for(root, "made")
for folder in folders:
    folder.over = True
print(sum(not look() for look in looks))
""".replace("READERS", READERS)


def hidden_in_one_step(bench: Bench, how: str) -> tuple[int, int]:
    """The logs made within the step of the directory in which somebody had looked for them; those never seen by him."""
    root = f"{MOUNT}/{how}"
    bench.run("server", "mkdir", root)
    with ThreadPoolExecutor() as threads:
        made = threads.submit(bench.python, "server", MAKE_IN_ONE_STEP, root, str(LOGS))
        seen = bench.python("b", LOOK_ONCE_BEFORE, root, str(LOGS), how, str(HERE.parent.parent))
        return int(made.result()), int(seen)


def test_a_log_that_was_looked_for_in_the_step_of_the_clock_in_which_it_is_made_is_seen() -> None:
    with Bench.up(clients=("b",), version="3") as bench:
        unmoved, hidden = hidden_in_one_step(bench, "at-once")
        assert 0 < unmoved == hidden  # the control: by name they are not seen
        unmoved, hidden = hidden_in_one_step(bench, "careful")
        assert unmoved and not hidden


def test_a_log_that_is_looked_for_while_it_is_made_is_seen() -> None:
    root = f"{MOUNT}/logs"
    with Bench.up(clients=("a", "b"), version="3") as bench, ThreadPoolExecutor() as threads:
        bench.run("a", "mkdir", root)
        words = (root, str(LOGS), str(time.time() + 5), str(EACH))
        made = threads.submit(bench.python, "a", MAKE, *words, str(MOMENT))
        assert int(bench.python("b", LOOK, *words, str(HERE.parent.parent))) == 0
        made.result()
