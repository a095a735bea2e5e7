"""Real heads on one spool: one leads, the others stand by, and a frozen one that wakes up finds itself deposed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool_layout import settings
from spool_layout.events import Accepted
from spool_layout.leadership import HeadLock
from spool_layout.records import HeadStatus, decode
from tests.e2e.cluster import Cluster, running

TASK = "run: echo done\n...\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A spool without daemons."""
    with running(tmp_path) as made:
        yield made


def roles(cluster: Cluster) -> dict[str, str]:
    """Role of each head process by its key."""
    pids = {process.pid: key for key, process in cluster.processes.items()}
    found = {}
    for path in Path(cluster.spool.heads).glob("*.json"):
        status = decode(path.read_bytes(), HeadStatus, str(path))
        if status.pid in pids:
            found[pids[status.pid]] = status.role
    return found


def accepted(cluster: Cluster) -> list[str]:
    """The drops that the events accepted, in order."""
    return [event.drop for event in cluster.events() if isinstance(event, Accepted)]


def drop_and_wait(cluster: Cluster, name: str) -> None:
    cluster.drop(name, TASK)
    cluster.eventually(lambda: name in accepted(cluster))


def test_one_of_several_heads_leads_and_the_next_one_follows_a_kill(cluster: Cluster) -> None:
    for key in ("head1", "head2", "head3"):
        cluster.head(key)
    cluster.eventually(lambda: sorted(roles(cluster).values()) == ["leading", "standby", "standby"])
    drop_and_wait(cluster, "one.yaml")
    (leader,) = [key for key, role in roles(cluster).items() if role == "leading"]
    cluster.kill(leader)
    began = time.monotonic()
    drop_and_wait(cluster, "two.yaml")
    assert time.monotonic() - began < 10  # P7: the threshold of 1.2 s and a tick, on a busy machine
    cluster.eventually(lambda: sorted(roles(cluster).values()) == ["leading", "standby"])
    assert accepted(cluster) == ["one.yaml", "two.yaml"]


def as_shipped(cluster: Cluster) -> None:
    """The lock's times are those that `init` writes for a disk of this host."""
    path = Path(cluster.spool.settings)
    said = [line for line in path.read_text().splitlines(True) if not line.startswith("lock_")]
    written = settings.first_text("any", False).splitlines(True)
    path.write_text("".join(said + [line for line in written if line.startswith("lock_")]))


def test_a_kill_is_followed_long_before_the_threshold_that_init_writes_and_a_frozen_head_is_not(
    cluster: Cluster,
) -> None:
    as_shipped(cluster)
    cluster.head("head1")
    drop_and_wait(cluster, "one.yaml")
    cluster.head("head2")
    cluster.eventually(lambda: roles(cluster).get("head2") == "standby")
    cluster.kill("head1")
    began = time.monotonic()
    drop_and_wait(cluster, "two.yaml")
    took = time.monotonic() - began
    print(f"{took:.2f} s")
    assert took < 10  # P7: a look each second and a tick, on a busy machine; the threshold is 50 s
    cluster.processes["head2"].send_signal(signal.SIGSTOP)
    try:
        lock = HeadLock(cluster.spool, settings.load(cluster.spool, cluster.disk))
        assert not lock.is_free() and lock.is_led()
    finally:
        cluster.processes["head2"].send_signal(signal.SIGCONT)
    assert "Head: alive" in cluster.sky("status").stdout
    cluster.kill("head2")
    assert lock.is_free() and not lock.is_led()
    cluster.eventually(lambda: "no head is alive" in cluster.sky("queue", check=None).stderr)  # clients know as well
    assert cluster.once("head").returncode == 0


def test_a_head_that_is_stopped_hands_over_at_once(cluster: Cluster) -> None:
    cluster.head("head1")
    drop_and_wait(cluster, "one.yaml")
    cluster.head("head2")
    cluster.eventually(lambda: roles(cluster).get("head2") == "standby")
    process = cluster.processes["head1"]
    cluster.kill("head1", signal.SIGTERM)
    assert process.returncode == 0
    drop_and_wait(cluster, "two.yaml")
    assert accepted(cluster) == ["one.yaml", "two.yaml"]


def test_a_frozen_head_that_wakes_up_takes_nothing_and_stands_by(cluster: Cluster) -> None:
    """SIGSTOP for longer than the lock's threshold; on SIGCONT its watches tell it of everything that was dropped."""
    cluster.head("head1")
    drop_and_wait(cluster, "one.yaml")
    frozen = cluster.processes["head1"]
    frozen.send_signal(signal.SIGSTOP)
    try:
        cluster.head("head2")
        drop_and_wait(cluster, "two.yaml")
        for number in range(20):
            cluster.drop(f"more{number}.yaml", TASK)
        frozen.send_signal(signal.SIGCONT)
        for number in range(20, 40):
            cluster.drop(f"more{number}.yaml", TASK)
        cluster.eventually(lambda: roles(cluster) == {"head1": "standby", "head2": "leading"})
    finally:
        frozen.send_signal(signal.SIGCONT)
    names = {"one.yaml", "two.yaml", *(f"more{number}.yaml" for number in range(40))}
    cluster.eventually(lambda: set(accepted(cluster)) == names)
    assert len(accepted(cluster)) == len(names)
    assert len(os.listdir(cluster.spool.claims)) == 1  # the frozen one's is gone
    cluster.sound()


def test_once_beside_a_leading_head_ends_with_0_and_says_so(cluster: Cluster) -> None:
    cluster.head("head1")
    drop_and_wait(cluster, "one.yaml")
    epochs = os.listdir(cluster.spool.events)
    done = cluster.once("head")
    assert done.returncode == 0
    assert "another head leads" in done.stderr
    assert os.listdir(cluster.spool.events) == epochs


def test_once_after_a_killed_head_waits_for_its_lock_to_expire_and_leads(cluster: Cluster) -> None:
    cluster.head("head1")
    drop_and_wait(cluster, "one.yaml")
    cluster.kill("head1")
    cluster.drop("two.yaml", TASK)
    assert cluster.once("head").returncode == 0
    assert accepted(cluster) == ["one.yaml", "two.yaml"]


def test_once_does_not_wait_for_what_never_becomes_complete(cluster: Cluster) -> None:
    """An empty file, and one that somebody holds open: the next run looks again."""
    Path(cluster.spool.pending, "empty.yaml").touch()
    with Path(cluster.spool.pending, "open.yaml").open("w") as file:
        file.write("run: echo\n")
        file.flush()
        cluster.drop("good.yaml", TASK)
        began = time.monotonic()
        assert cluster.once("head").returncode == 0
        assert time.monotonic() - began < 10
    assert accepted(cluster) == ["good.yaml"]
    assert cluster.once("head").returncode == 0
    assert accepted(cluster) == ["good.yaml", "open.yaml"]


def test_a_file_written_just_before_once_is_not_missed(cluster: Cluster) -> None:
    """It has no end mark, and is younger than the settle time when the run begins."""
    Path(cluster.spool.pending, "young.yaml").write_text("run: echo\n")
    assert cluster.once("head").returncode == 0
    assert accepted(cluster) == ["young.yaml"]
