"""What a head does not ask a file server while nothing happens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from spool_layout.paths import Spool
from spool_layout.records import Node, NodeStatus, Share, encode
from spool_layout.replay import State
from spool_layout.storage import Disk, Entry, Seen
from spoold.core.hearing import Hearing
from spoold.head import listen
from spoold.head.listen import SELDOM, Listener


class Counted(Disk):
    """Counts what is asked, by the last part of the path."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def list(self, path: str) -> list[Entry]:
        self.asked[path.rpartition("/")[2]] += 1
        return super().list(path)

    def inspect(self, path: str, limit: int) -> Seen:
        self.asked[path.split("/")[-2]] += 1
        return super().inspect(path, limit)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(listen, "time", clock)
    return clock


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    spool = Spool(tmp_path)
    for name in ("n1", "n2"):
        Path(spool.node(name)).mkdir(parents=True)
        say(spool, name, 1)
    return Listener(spool, Counted(), Hearing(30, 5), lambda: 0.0, sparing=True)


def say(spool: Spool, name: str, beat: int) -> None:
    status = NodeStatus(format=1, node=name, host="h1", incarnation=1, beat=beat, interval=2.0)
    Disk().publish(spool.status(name), encode(status))


def asked(listener: Listener) -> Counter[str]:
    """What was asked since the last time."""
    assert isinstance(listener.disk, Counted)
    counted, listener.disk.asked = listener.disk.asked, Counter()
    return counted


def beats(listener: Listener, state: State) -> dict[str, int]:
    reports, _ = listener.hear(state)
    return {report.status.node: report.status.beat for report in reports}


def test_nodes_that_run_nothing_are_read_seldom_while_no_job_waits(listener: Listener, clock: Clock) -> None:
    state = State()
    assert beats(listener, state) == {"n1": 1, "n2": 1}
    asked(listener)
    say(listener.spool, "n1", 2)
    clock.now += SELDOM / 2
    assert beats(listener, state) == {"n1": 1, "n2": 1}
    assert asked(listener) == {}
    clock.now += SELDOM / 2
    assert beats(listener, state) == {"n1": 2, "n2": 1}
    assert asked(listener) == {"nodes": 1, "n1": 1, "n2": 1}


def test_a_node_that_runs_something_is_read_at_every_look(listener: Listener, clock: Clock) -> None:
    state = State()
    state.nodes["n2"] = Node(name="n2", gpus=[], shares={"1.1": Share(500, 0)})
    beats(listener, state)
    asked(listener)
    say(listener.spool, "n2", 2)
    assert beats(listener, state)["n2"] == 2
    assert asked(listener) == {"n2": 1}


def test_every_node_is_read_while_a_job_waits(listener: Listener, clock: Clock) -> None:
    state = State()
    beats(listener, state)
    state.waiting["1.a.yaml"] = 1
    asked(listener)
    beats(listener, state)
    assert asked(listener) == {"nodes": 1, "n1": 1, "n2": 1}
