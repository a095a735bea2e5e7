"""Which of filelock's expiring locks changes hands on real NFS when its holder's host is gone.

The heads rest on this: the write lock of SoftReadWriteLock does, about one threshold later; SoftFileLease never does,
since its take-over exchanges two names, which NFS refuses. A release of filelock that changes either must be looked at.

The write lock is taken as the heads take it, without delegations: opened as filelock opens its files (4.3.1), it
changes hands on 4.2 only when the lease of the host that is gone is over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.nfs.bench import MOUNT, Bench, Command, eventually

THRESHOLD, HEARTBEAT = 2.0, 0.6  # seconds
LATE = 1.5  # seconds beyond the threshold that a take-over may need, on machines at rest: polls and three calls
PATIENCE = 4 * THRESHOLD
HOLD = f"""
import sys, time, filelock
from spool_layout import leadership, storage
kind, path, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
storage.read_without_delegations("{MOUNT}")
leadership.open_locks_without_delegations()
began = time.monotonic()
try:
    if kind == "lease":
        lock = filelock.SoftFileLease(path, lease_duration={THRESHOLD}, heartbeat_interval={HEARTBEAT})
        lock.acquire(timeout=patience)
    else:
        lock = filelock.SoftReadWriteLock(path, heartbeat_interval={HEARTBEAT}, stale_threshold={THRESHOLD})
        lock.acquire_write(patience)
    print(round(time.monotonic() - began, 1), flush=True)
except filelock.Timeout:
    print("never", flush=True)
    sys.exit()
time.sleep(float(sys.argv[4]))
"""
VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("lock-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("lock-3")),
]


@pytest.fixture(scope="module", params=VERSIONS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Clocks 40 seconds apart: no lock may go by another host's clock."""
    with Bench.up(clients=("a", "b"), version=request.param, skew={"b": 40}) as bench:
        yield bench


def hold(bench: Bench, machine: str, kind: str, path: str, patience: float, seconds: float) -> Command:
    """A process that takes a lock of a kind and holds it for some seconds."""
    return bench.begin(machine, sys.executable, "-c", HOLD, kind, path, str(patience), str(seconds))


@pytest.mark.parametrize("harm", ["off", "frozen"])
def test_the_write_lock_changes_hands_after_its_threshold_and_the_lease_never_does(bench: Bench, harm: str) -> None:
    paths = {kind: f"{MOUNT}/{kind}-{harm}" for kind in ("lease", "write")}
    holders = [hold(bench, "a", kind, path, 5, 600) for kind, path in paths.items()]
    eventually(lambda: all(holder.out for holder in holders), 20)
    assert "never" not in "".join(holder.out for holder in holders)
    with getattr(bench, harm)("a"):
        time.sleep(0.1)
        waiters = {kind: hold(bench, "b", kind, path, PATIENCE, 0) for kind, path in paths.items()}
        for waiter in waiters.values():
            waiter.wait(PATIENCE + 20)
        late = LATE * bench.slowness("b")
    assert waiters["lease"].out.strip() == "never", waiters["lease"].err
    assert THRESHOLD <= float(waiters["write"].out) <= THRESHOLD + late, waiters["write"].err
    if harm == "frozen":
        for holder in holders:
            holder.kill()


@pytest.mark.parametrize("kind", ["lease", "write"])
def test_a_lock_that_is_released_changes_hands_at_once(bench: Bench, kind: str) -> None:
    path = f"{MOUNT}/{kind}-released"
    holder = hold(bench, "a", kind, path, 5, 1.0)
    eventually(lambda: holder.out, 20)
    waiter = hold(bench, "b", kind, path, PATIENCE, 0)
    waiter.wait()
    assert float(waiter.out) <= 1.0 + LATE * bench.slowness("b")
