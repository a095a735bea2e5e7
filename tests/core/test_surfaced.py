"""A node comes back to a restored spool that was recovered without it, with attempts that no event knows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spool_layout.events import Restored, Surfaced
from spool_layout.records import Phase, Remnant
from spool_layout.states import Status
from spoold.core.invariants import broken
from tests.core.builders import Scenario, task

EPOCH = 1005  # in which the recovered spool goes on
RUNS = Phase("running", pid=7)


def recovered(**nodes: str) -> Scenario:
    """A spool that was recovered without n1, as it was before any of its nodes was heard again."""
    scenario = Scenario(**nodes)
    scenario.look()
    scenario.state.apply(Restored(1000, [], "2026-01-02", "restored", 1.0, left_out=("n1",), epoch=EPOCH))
    return scenario


def tells(scenario: Scenario, node: str, seen: tuple[int, int] = (5, 1), **more: Any) -> None:
    scenario.reports[node] = msgspec.structs.replace(scenario.reports[node], seen=seen, **more)


def surfaced(events: list[object]) -> list[Surfaced]:
    return [event for event in events if isinstance(event, Surfaced)]


def test_a_node_that_was_left_out_gets_no_work_until_it_has_read_an_assignment_of_now() -> None:
    s = recovered(n1="H100:1", n2="L4:1")
    (job,) = s.drop(task("H100:1"))
    assert s.running == []
    tells(s, "n1", (EPOCH - 1, 99))
    s.look()
    assert s.running == []
    tells(s, "n1", (EPOCH, 1))
    s.look()
    assert s.running == [job]


@pytest.mark.parametrize("heard", ["up", "lost contact", "down"])
def test_it_stays_awaited_however_it_is_heard(heard: str) -> None:
    s = recovered(n1="H100:1")
    s.heard["n1"] = heard
    s.look()
    s.heard["n1"] = "up"
    s.drop(task("H100:1"))
    assert s.state.nodes["n1"].awaited == EPOCH and s.running == []


def test_what_surfaces_holds_all_that_is_idle_until_it_is_gone() -> None:
    s = recovered(n1="H100:2")
    (job,) = s.drop(task("H100:1"))
    tells(s, "n1", (EPOCH, 1), attempts={"7.1": RUNS}, meanwhile=[Remnant(7, 1, name="late", user="ann", uid=5)])
    (event,) = surfaced(s.look())
    assert event.over == [7] and s.running == []
    ended = s.state.ended[7]
    assert (ended.status, ended.name, ended.user, ended.uid) == (Status.FAILED, "late", "ann", 5)
    assert ended.reason.startswith("restored")
    (cpu,) = s.drop(task())
    assert cpu not in s.running
    assert surfaced(s.look()) == []
    s.phase("n1", "7.1", Phase("ended", code=0))
    s.look()
    assert s.running == [job, cpu] and not s.state.held


def test_a_job_of_the_forgotten_time_is_told_when_the_node_can_say_whose_it_is() -> None:
    s = recovered(n1="H100:1")
    tells(s, "n1", attempts={"7.1": RUNS})
    assert surfaced(s.look()) == []
    tells(s, "n1", (EPOCH, 1), attempts={"7.1": RUNS}, meanwhile=[Remnant(7, 1, name="late")])
    assert [remnant.name for remnant in surfaced(s.look())[0].jobs] == ["late"]


def test_a_waiting_job_that_a_node_began_fails_at_once_and_is_not_run_beside_itself() -> None:
    s = Scenario(n1="H100:1")
    first, waits = s.drop(task("H100:1"), task("H100:1"))
    s.state.apply(Restored(1000, [Remnant(first, 1, ("n1",))], "2026-01-02", "r", 1.0, left_out=("n1",), epoch=EPOCH))
    s.node("n2", "H100:1")
    tells(s, "n1", attempts={f"{first}.1": Phase("ended", code=0), f"{waits}.1": RUNS})
    (event,) = surfaced(s.look())
    assert event.over == [waits] and s.running == []
    assert s.state.ended[waits].status is Status.FAILED
    assert s.state.held == {(waits, 1): {"n1"}}


def test_a_job_that_runs_elsewhere_by_now_goes_on_and_the_older_attempt_is_held_until_it_is_gone() -> None:
    s = Scenario(n1="H100:1", n2="H100:1")
    s.heard["n2"] = "down"
    first, job = s.drop(task("H100:1"), task("H100:1"))
    s.state.apply(Restored(1000, [Remnant(first, 1, ("n1",))], "2026-01-02", "r", 1.0, left_out=("n1",), epoch=EPOCH))
    s.heard["n2"] = "up"
    s.look()
    assert [a.node for a in s.state.jobs[job].allocations] == ["n2"]
    tells(s, "n1", attempts={f"{first}.1": Phase("ended", code=0), f"{job}.1": RUNS})
    (event,) = surfaced(s.look())
    assert event.over == [] and s.running == [job]
    assert s.state.nodes["n1"].gpus[0].holders == {f"{job}.1": 1000}
    s.heard["n2"] = "down"
    s.look()
    assert s.state.held == {(job, 1): {"n1", "n2"}}
    s.phase("n1", f"{job}.1", Phase("ended", code=0))
    s.look()
    assert s.state.held == {(job, 1): {"n2"}}


def test_an_old_report_of_an_attempt_that_is_over_fails_no_job_that_waits_to_run_again() -> None:
    s = Scenario(n1="H100:1")
    (job,) = s.drop(task("H100:1"))
    s.phase("n1", f"{job}.1", Phase("never"))
    s.heard["n1"] = "lost contact"  # it gets no work
    s.look()
    assert s.running == []
    s.phase("n1", f"{job}.1", RUNS)
    (event,) = surfaced(s.look())
    assert event.over == [] and s.state.jobs[job].status is Status.PENDING
    s.phase("n1", f"{job}.1", Phase("never"))
    s.heard["n1"] = "up"
    s.look()
    assert s.running == [job] and s.state.jobs[job].attempt == 2


def test_a_job_that_has_ended_keeps_its_outcome_also_when_it_is_forgotten() -> None:
    s = recovered(n1="H100:1", n2="L4:1")
    job, other = s.drop(task("L4:1"), task("L4:1"))
    s.finish(job)
    s.finish(other)
    del s.state.ended[other]
    tells(s, "n1", (EPOCH, 1), attempts={f"{job}.1": RUNS, f"{other}.1": RUNS})
    (event,) = surfaced(s.look())
    assert event.over == []
    assert s.state.ended[job].status is Status.SUCCEEDED and other not in s.state.ended
    assert set(s.state.nodes["n1"].gpus[0].holders) == {f"{job}.1", f"{other}.1"}


def test_nothing_surfaces_on_a_node_that_may_know_of_a_later_spool() -> None:
    s = recovered(n1="H100:1")
    tells(s, "n1", (EPOCH + 5, 1), attempts={"7.1": RUNS})
    from spoold.core.decide import decide
    from spoold.core.model import Look, Report

    look = Look(s.now, "2026-01-02", reports=(Report(s.reports["n1"], "up"),))
    assert surfaced(list(decide(s.state, look._replace(ahead=frozenset({"n1"})), s.policy))) == []
    assert len(surfaced(list(decide(s.state, look, s.policy)))) == 1
    assert broken(s.state) == []


def test_an_id_beyond_all_that_were_given_is_skipped_as_well() -> None:
    s = recovered(n1="H100:1")
    tells(s, "n1", (EPOCH, 1), attempts={"4711.2": RUNS})
    s.look()
    assert s.state.next_id == 4712 and s.state.ended[4711].attempt == 2
    assert s.state.was_never_given(4000) and not s.state.was_never_given(0)
