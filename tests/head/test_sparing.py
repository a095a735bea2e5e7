"""What a head does not ask a file server while nothing happens, and no disk while one tick follows another."""

from __future__ import annotations

import os
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from spool_layout.paths import Spool
from spool_layout.records import Assigned, Node, NodeStatus, Share, decode, encode
from spool_layout.replay import State
from spool_layout.stamps import Stamp
from spool_layout.states import Status
from spool_layout.storage import Disk, Entry, Seen
from spoold.core.hearing import Hearing
from spoold.head import listen, loop, observe
from spoold.head.listen import SELDOM, Listener
from spoold.head.loop import Head
from spoold.head.project import UNREAD
from spoold.head.term import Term
from tests.e2e.cluster import Cluster
from tests.head.stage import CPU, SETTINGS, Stage
from tests.head.stage import Node as Simulated


class Counted(Disk):
    """Counts what is asked, by the last part of the path; and of that, what is listed."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.listed: Counter[str] = Counter()

    def list(self, path: str) -> list[Entry]:
        name = path.rpartition("/")[2]
        self.asked[name] += 1
        self.listed[name] += 1
        return super().list(path)

    def read(self, path: str, start: int = 0) -> bytes | None:
        self.asked[path.rpartition("/")[2]] += 1
        return super().read(path, start)

    def inspect(self, path: str, limit: int, known: Seen | None = None) -> Seen:
        self.asked[path.split("/")[-2]] += 1
        return super().inspect(path, limit, known)


class Clock:
    """A monotonic clock that a test moves. ahead: of the files' time stamps, seconds."""

    strftime, gmtime = staticmethod(time.strftime), staticmethod(time.gmtime)

    def __init__(self) -> None:
        self.now, self.ahead = 1000.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return time.time_ns() + int(self.ahead * 1e9)


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


# ---- a disk of this host, on which a stamp tells that nothing has changed


def test_what_a_node_said_is_not_read_again_while_its_file_has_the_same_stamp(listener: Listener, clock: Clock) -> None:
    state, listener.sparing, clock.ahead = State(), False, 1.0
    assert beats(listener, state) == {"n1": 1, "n2": 1}
    asked(listener)
    assert beats(listener, state) == {"n1": 1, "n2": 1}
    assert asked(listener) == {"nodes": 1}
    say(listener.spool, "n1", 2)
    assert beats(listener, state) == {"n1": 2, "n2": 1}
    assert asked(listener) == {"nodes": 1, "n1": 1}
    Path(listener.spool.status("n2")).unlink()
    assert beats(listener, state) == {"n1": 2}
    clock.now += SELDOM  # whatever a stamp may hide
    assert beats(listener, state) == {"n1": 2}
    assert asked(listener) == {"nodes": 2, "n1": 1, "n2": 2}


def test_a_report_that_may_change_without_another_stamp_is_read_at_every_look(listener: Listener, clock: Clock) -> None:
    """It was written just now, and the next one within the same step of the clock."""
    state, listener.sparing, clock.ahead = State(), False, -1.0
    for _ in range(3):
        assert beats(listener, state) == {"n1": 1, "n2": 1}
        assert asked(listener) == {"nodes": 1, "n1": 1, "n2": 1}


def test_a_stamp_of_whole_seconds_tells_nothing() -> None:
    assert not Stamp(7, 9, 5_000_000_000, 5_000_000_000).is_settled(10_000_000_000)
    assert Stamp(7, 9, 5_000_000_000, 5_000_000_001).is_settled(10_000_000_000)


def test_pending_is_not_listed_again_while_it_has_the_same_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(observe, "time", clock)
    clock.ahead = 1.0
    stage = Stage(tmp_path / "spool", disk := Counted())
    stage.drop("a")
    stage.look()
    stage.look()
    disk.listed.clear()
    stage.edit("a", CPU)
    digest = stage.job("a").digest
    stage.look()
    assert stage.job("a").digest != digest and disk.listed["pending"] == 0
    stage.drop("b")
    stage.look()
    assert set(stage.jobs()) == {"a", "b"} and disk.listed["pending"] > 0
    stage.look()
    disk.listed.clear()
    stage.look()
    assert disk.listed["pending"] == 0
    clock.now += SELDOM  # whatever a stamp may hide
    stage.look()
    assert disk.listed["pending"] == 1
    stage.delete("a")
    stage.look()
    clock.now += SETTINGS.settle
    stage.look()
    assert stage.job("a").status is Status.CANCELLED


# ---- a head whose ticks follow each other, on a disk that tells of changes


def test_a_tick_that_is_for_the_nodes_alone_lists_no_files_and_hears_what_ends(tmp_path: Path) -> None:
    disk = Counted()
    stage = Stage(tmp_path / "spool", disk)
    stage.node("n1", gpus=1)
    stage.drop("a")
    stage.drop("b")
    stage.run()
    stage.nodes["n1"].over.add("a")
    stage.nodes["n1"].step()
    stage.drop("c")
    disk.asked.clear()
    assert stage.term is not None and stage.term.tick(nodes_only=True)
    assert disk.asked["pending"] == disk.asked["requests"] == 0
    assert (stage.job("a").status, stage.job("b").status) == (Status.SUCCEEDED, Status.RUNNING)
    assert "c" not in stage.jobs()
    stage.run()
    assert stage.job("c").status is Status.PENDING
    stage.finish("b", "c")
    stage.audit()


def test_a_beat_of_a_node_costs_an_idle_head_one_file_and_a_sweep_three_listings(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "spool", disk := Counted())
    stage.node("n1")
    stage.run()
    assert stage.term is not None
    for nodes_only, cost in ((True, {"n1": 1}), (False, {"pending": 1, "requests": 1, "nodes": 1, "n1": 1})):
        stage.nodes["n1"].step()
        disk.asked.clear()
        assert not stage.term.tick(nodes_only)
        assert disk.asked == cost


def test_a_head_that_lost_the_lock_is_woken(tmp_path: Path) -> None:
    """Else it would find out when it next renews its sign of life: each 20 s, by the settings of `init`."""
    head = Head(Cluster(tmp_path).spool.root, state=str(tmp_path / "state"))
    try:
        assert head.lock.acquire() and not head.waker.wait(0)
        os.unlink(head.spool.lock_record(*head.lock.holders() or {}))
        assert head.waker.wait(10) and head.lock.lost
    finally:
        head.lock.release()
        head.waker.close()


def test_whether_the_boxes_are_looked_into_without_news_goes_by_what_they_held(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes into empty ones is news. What its owner moves away, or makes readable, is none."""
    monkeypatch.setattr(loop, "time", clock)
    head = Head(Cluster(tmp_path).spool.root, state=str(tmp_path / "state"))
    try:
        term = head.begin()
        assert term is not None

        def due(since: float, *news: str) -> bool:
            head.waker.news = set(news)
            return head.files_are_due(term, since)

        term.tick()
        assert not due(head.settings.sweep - 1) and due(head.settings.sweep)
        assert due(0, head.spool.pending) and due(0, head.spool.requests) and due(0, head.spool.nodes)
        for box in (head.spool.pending, head.spool.requests):
            (other := Path(box, ".someone's.yaml")).write_text("")
            term.tick()
            assert not due(loop.FILES_SELDOM / 2) and due(loop.FILES_SELDOM)
            other.unlink()
            term.tick()
            assert not due(loop.FILES_SELDOM)
    finally:
        head.lock.release()
        head.waker.close()


@pytest.mark.parametrize(("news", "apart", "looks"), [(True, loop.FILES_EVERY, 4), (False, loop.FILES_SELDOM, 1)])
def test_the_loop_looks_for_files_at_once_and_then_not_before_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, news: bool, apart: float, looks: int
) -> None:
    """Woken each 10 ms, with nothing to do: by files that are none of a job, or by nodes alone."""
    head = Head(Cluster(tmp_path).spool.root, state=str(tmp_path / "state"))
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(observe, "time", clock)
    ticks: list[tuple[float, bool]] = []  # when, and whether for the nodes alone
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock.now += min(max(seconds, 0.001), 0.01)  # time passes, however short the wait is
        head.waker.news.update({head.spool.pending} if news else ())
        if len(waits) == 20:
            head.stop()
        return True

    monkeypatch.setattr(head.waker, "wait", wait)
    tick = Term.tick

    def noted(term: Term, nodes_only: bool) -> bool:
        ticks.append((clock.now, nodes_only))
        return tick(term, nodes_only)

    monkeypatch.setattr(Term, "tick", noted)
    try:
        head.lead()
    finally:
        head.waker.close()
    looked = [now for now, nodes_only in ticks if not nodes_only]
    assert looked[0] == ticks[0][0] and len(ticks) == 20 and len(looked) == looks
    assert all(apart <= b - a <= apart + 0.01 for a, b in pairwise(looked))
    spared = [seconds for (_, nodes_only), seconds in zip(ticks, waits, strict=True) if nodes_only]
    assert not news or max(spared) <= apart, "a file that came meanwhile is seen then"


def test_a_file_that_may_be_complete_is_looked_at_again_though_no_news_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(observe, "time", clock)
    monkeypatch.setattr("tests.head.stage.SETTINGS", msgspec.structs.replace(SETTINGS, settle=5.0))
    stage = Stage(tmp_path / "spool")
    Path(stage.spool.pending, "slow.yaml").write_text("run: hostname\n")  # no end mark: complete when it was quiet
    stage.look()
    assert stage.term is not None and stage.term.again is not None
    due = stage.term.observer.files_due
    assert clock.now < due <= clock.now + 5
    clock.now += 1
    stage.term.tick(nodes_only=True)
    assert (stage.term.observer.files_due, stage.term.again) == (due, due - clock.now)
    clock.now = due
    stage.term.tick(nodes_only=True)
    assert stage.term.again == 0.0, "the loop looks for files then"


def test_an_assignment_that_its_node_has_not_read_yet_is_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a deposed head does to it, the node says (test_epochs.py); whatever else does shows then."""
    s = Stage(tmp_path, disk := Counted())
    s.node("n1")
    s.run()
    s.drop("a")
    s.look()
    assigned = Path(s.spool.assigned("n1"))
    told = assigned.read_bytes()
    assigned.unlink()
    disk.asked.clear()
    s.look()
    s.look()
    assert disk.asked["assigned.json"] == 0
    later = time.monotonic() + UNREAD
    monkeypatch.setattr("spoold.head.project.time.monotonic", lambda: later)
    s.look()
    assert decode(assigned.read_bytes(), Assigned, "").attempts == decode(told, Assigned, "").attempts != {}


@pytest.mark.parametrize("once", [False, True])
def test_a_head_that_ends_leaves_nothing_listed_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    """Else a node waits for the next head to forget it."""
    head = Head(Cluster(tmp_path).spool.root, state=str(tmp_path / "state"))
    head.local = False
    node = Simulated(head.spool, "n1", 1)
    node.over.add("a")
    Path(head.spool.dropped("a.yaml")).write_text(CPU)

    def wait(_: float) -> bool:
        node.step()
        if any(phase.phase == "ended" for phase in node.phases.values()) and head.disk.list(head.spool.done):
            head.stop()
        return True

    monkeypatch.setattr(head.waker, "wait", wait)
    try:
        assert once or head.lock.acquire()
        for _ in range(2 if once else 1):
            head.once() if once else head.lead()
            node.step()
            node.step()
    finally:
        head.lock.release()
        head.waker.close()
    assert node.ran and node.phases == {}
    assert decode(Path(head.spool.assigned("n1")).read_bytes(), Assigned, "").attempts == {}
