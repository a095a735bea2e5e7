"""Who stands in which line, as events come; `broken` compares the lines of every state that tests look at."""

from __future__ import annotations

from spool_layout.events import (
    AnyEvent,
    Ended,
    Gone,
    Lost,
    NodeChanged,
    Restored,
    Started,
    Stopping,
    Surfaced,
    Waiting,
)
from spool_layout.lines import Lines
from spool_layout.records import Allocation, Remnant
from spool_layout.replay import State
from spool_layout.states import Status
from tests.core.builders import Scenario, task

ONE, TWO = task("H100:1"), task("H100:2")


def lines(state: State) -> list[list[int]]:
    """Each line, the one whose first job is the oldest first."""
    return sorted(state.lines.waiting.values())


def test_jobs_stand_in_line_by_what_they_ask_for_until_they_start_or_end() -> None:
    s = Scenario(n1="H100:1")
    s.drop(ONE, ONE, TWO, ONE)
    assert (lines(s.state), s.state.lines.holding) == ([[2, 4], [3]], {1})
    assert s.state.lines.unsatisfiable == {3}
    s.state.apply(Ended(2, 0, Status.CANCELLED, "2026-01-02", 1.0, "cancelled"))
    assert lines(s.state) == [[3], [4]]
    s.finish(1)
    assert (lines(s.state), s.state.lines.holding) == ([[3]], {4})


def test_a_job_that_waits_again_stands_where_its_id_says() -> None:
    s = Scenario(n1="H100:1")
    first, *_ = s.drop(ONE, ONE, ONE)
    assert lines(s.state) == [[2, 3]]
    job = s.state.jobs[first]
    s.state.lines.note(first, None)
    job.status, job.allocations = Status.PENDING, []
    s.state.lines.note(first, job)
    assert lines(s.state) == [[1, 2, 3]]


def test_one_with_a_problem_stands_in_none() -> None:
    s = Scenario()
    s.drop(ONE)
    s.state.jobs[1].problem = "line 1: no"
    assert Lines(s.state.jobs.values()).waiting == {}


def test_what_ends_many_jobs_at_once_empties_their_lines() -> None:
    for event in (
        Restored(1000, [Remnant(1, 1, ("n1",))], "2026-01-02", "restored", 1.0),
        Surfaced("n1", [Remnant(1, 1, ("n1",))], [1], "2026-01-02", "surfaced", 1.0),
    ):
        s = Scenario(n1="")
        s.drop(ONE, ONE)
        assert lines(s.state) == [[1, 2]]
        s.state.apply(event)
        assert lines(s.state) == [[2]]


# ---- whose turn it is


def test_a_node_has_another_turn_after_an_event_of_it_of_a_job_there_or_of_a_peer_of_such_a_job() -> None:
    s = Scenario(n1="H100:1", n2="H100:1", n3="H100:1")

    def turned(event: AnyEvent) -> str:
        """The nodes that have another turn after an event."""
        before = {name: s.state.turn(name) for name in s.state.nodes}
        s.state.apply(event)
        return " ".join(name for name, turn in before.items() if s.state.turn(name) != turn)

    [gang] = s.drop(task("H100:1", nodes=2))
    [waits] = s.drop(task("H100:2"))
    assert [a.node for a in s.state.jobs[gang].allocations] == ["n1", "n2"]
    assert turned(Waiting(waits, None, "", 1.0)) == ""
    assert turned(Stopping(gang, 1, Status.FAILED, "", 1.0)) == "n1 n2"
    assert turned(NodeChanged("n3", 1.0, address="10.0.0.3")) == "n3"
    known = s.state.nodes["n1"]
    there = [slot.gpu for slot in known.gpus]
    assert turned(NodeChanged("n1", 1.0, address="10.0.0.1", gpus=there)) == "n1 n2", "n2 is told where n1 is"
    assert turned(Lost(gang, 1, ("n2",), True, "lost", "2026-01-02", 1.0)) == "n1 n2", "n1 by what it held before"
    assert turned(Gone(gang, 1, "n2", 1.0)) == "n2"
    assert turned(Started(gang, 2, [Allocation("n3", {}, 500, 0)], 1.0)) == "n3"
    assert turned(Surfaced("n2", [Remnant(9, 1, ("n2",))], [], "2026-01-02", "surfaced", 1.0)) == "n1 n2 n3"


def test_each_event_is_another_moment() -> None:
    s = Scenario(n1="H100:1")
    moment = s.state.moment()
    assert s.state.moment() == moment
    s.drop(ONE)
    assert s.state.moment() != moment
