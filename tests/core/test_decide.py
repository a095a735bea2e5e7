"""What a look leads to: lives of jobs told as looks and events."""

from __future__ import annotations

from collections import Counter
from unittest.mock import ANY

import pytest

from spool_layout.events import Edited, Ended, Going, Gone, Lost, NodeChanged, Returned, Started, Stopping, Waiting
from spool_layout.fit import could_ever
from spool_layout.records import Phase
from spool_layout.states import Status
from spoold.core.model import Change, NewFile, Request
from spoold.core.placement import place
from tests.core.builders import Scenario, task

RUNNING = Phase("running", pid=11, started_at=1001.5)


def ended(code: int = 0, **more: object) -> Phase:
    return Phase("ended", code=code, pid=11, started_at=1001.5, ended_at=1005.0, **more)  # type: ignore[arg-type]


def test_a_job_runs_and_succeeds_with_the_times_of_its_node() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"))
    s.phase("n1", "1.1", RUNNING)
    assert [type(e) for e in s.look()] == [Going]
    s.phase("n1", "1.1", ended())
    (event,) = s.look()
    job = s.state.ended[1]
    assert isinstance(event, Ended)
    assert (job.status, job.start_at, job.end_at, job.exit_codes, job.pids) == ("SUCCEEDED", 1001.5, 1005.0, [0], [11])
    assert s.state.nodes["n1"].gpus[0].holders == {}


def test_a_looked_at_again_state_decides_nothing() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.phase("n1", "1.1", RUNNING)
    s.look()
    assert s.look() == []


def test_one_failed_rank_ends_the_others_which_count_as_137() -> None:
    s = Scenario(n1="", n2="", n3="")
    s.drop(task(nodes=3))
    s.phase("n1", "1.1", ended(0))
    s.phase("n2", "1.1", Phase("exited", code=3, pid=5))
    s.phase("n3", "1.1", RUNNING)
    (event,) = s.look()
    assert isinstance(event, Stopping)
    assert event.status == "FAILED" and event.exit_codes == [0, 3, 137]
    s.phase("n2", "1.1", ended(3))
    assert s.look() == []
    s.phase("n3", "1.1", ended(143))
    (last,) = s.look()
    assert isinstance(last, Ended)
    assert (last.status, last.exit_codes, last.reason) == (
        Status.FAILED,
        [0, 3, 137],
        "rank 1: run ended with exit code 3",
    )


def test_a_rank_that_ends_well_early_ends_nobody() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2))
    s.phase("n1", "1.1", ended(0))
    s.phase("n2", "1.1", RUNNING)
    assert not any(isinstance(e, Stopping | Ended) for e in s.look())


def test_leftovers_of_a_gang_are_ended_when_every_rank_has_exited() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2))
    s.phase("n1", "1.1", Phase("exited", code=0))
    s.phase("n2", "1.1", Phase("exited", code=0))
    (event,) = s.look()
    assert isinstance(event, Stopping) and event.status == "SUCCEEDED"
    s.finish(1)
    assert s.state.ended[1].status == "SUCCEEDED"


def test_run_begins_when_setup_is_over_on_every_node() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2, setup=True))
    assert s.state.jobs[1].status == "SETTING_UP"
    s.phase("n1", "1.1", Phase("ready", stage="setup"))
    s.phase("n2", "1.1", Phase("setup", stage="setup"))
    assert s.look() == []
    s.phase("n2", "1.1", Phase("ready", stage="setup"))
    (event,) = s.look()
    assert isinstance(event, Going) and event.start_at is None
    assert (s.state.jobs[1].status, s.state.jobs[1].go) == ("RUNNING", True)


def test_failed_setup_on_one_node_fails_the_job_and_names_the_rank() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2, setup=True))
    s.phase("n2", "1.1", ended(7, stage="setup"))
    s.phase("n1", "1.1", Phase("setup", stage="setup"))
    s.look()
    s.phase("n1", "1.1", ended(143, stage="setup"))
    s.look()
    job = s.state.ended[1]
    assert (job.status, job.reason) == ("FAILED_SETUP", "rank 1: setup ended with exit code 7")


def test_the_outcome_that_nobody_knows_is_failed_driver() -> None:
    s = Scenario(n1="")
    s.drop(task())
    s.phase("n1", "1.1", Phase("lost"))
    s.look()
    assert (s.state.ended[1].status, s.state.ended[1].reason) == ("FAILED_DRIVER", "its outcome is unknown")


def test_an_attempt_that_was_never_started_waits_again_and_starts_as_a_new_one() -> None:
    s = Scenario(n1="")
    s.drop(task())
    s.phase("n1", "1.1", Phase("never"))
    events = s.look()
    assert [type(e) for e in events] == [Returned, Started]
    assert s.state.jobs[1].key == "1.2"


def test_cancel_of_a_waiting_job_ends_it_at_once() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.look(requests=(Request("request-x", "k1", 0, "root", "cancel", (2,)),))
    assert (s.state.ended[2].status, s.state.ended[2].reason) == ("CANCELLED", "cancelled by root")


def test_cancel_of_a_running_job_holds_its_slots_until_it_is_gone() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.look(requests=(Request("request-x", "k1", 0, "root", "cancel", ("j1",)),))
    assert s.running == [1]
    s.phase("n1", "1.1", ended(143))
    s.look()
    assert (s.state.ended[1].status, s.running) == ("CANCELLED", [2])


def test_a_request_is_carried_out_once() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    request = Request("request-x", "k1", 0, "root", "cancel", everything="mine")
    s.look(requests=(request,))
    s.drop(task())
    assert not any(isinstance(e, Ended) for e in s.look(requests=(request,)))


def test_others_cannot_cancel_and_are_told() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), uid=1001)
    (event,) = s.look(requests=(Request("request-x", "k1", 1002, "eve", "cancel", (1,)),))
    assert event.reason == "not eve's: 1" and event.ids == []  # type: ignore[attr-defined]
    assert s.state.jobs[1].stop is None


def test_deleting_the_waiting_file_cancels() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.look(changes=(Change(2, deleted=True),))
    assert (s.state.ended[2].status, s.state.ended[2].reason) == ("CANCELLED", "its file was deleted")


def test_an_edit_changes_the_job_under_its_id() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    events = s.look(changes=(Change(2, inode=99, digest="other", name="cpu", task=task()),))
    assert [type(e) for e in events] == [Edited, Started]
    assert s.state.jobs[2].name == "cpu"


def test_an_edit_into_nonsense_waits_until_it_is_mended() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.look(changes=(Change(2, inode=99, digest="x", problem="line 1: no"),))
    s.finish(1)
    assert (s.running, s.state.jobs[2].reason) == ([], "line 1: no")
    s.look(changes=(Change(2, inode=99, digest="y", task=task("H100:1")),))
    assert s.running == [2]


def test_new_files_are_accepted_in_turn_and_bad_ones_are_set_aside() -> None:
    s = Scenario(n1="")
    late = NewFile("new-a.yaml", "a.yaml", 0, "u", 1, "d1", 20.0, task=task())
    early = NewFile("new-b.yaml", "b.yaml", 0, "u", 2, "d2", 10.0, name="called", task=task())
    bad = NewFile("new-c.yaml", "c.yaml", 0, "u", 3, "d3", 5.0, problem="line 1: no", aside="c.yaml")
    s.look(new=(bad, early, late))
    assert [(j.id, j.name, j.file) for j in s.state.jobs.values()] == [(1, "called", "1.b.yaml"), (2, "a", "2.a.yaml")]
    assert [(r.drop, r.reason) for r in s.state.rejected] == [("c.yaml", "line 1: no")]


def test_a_lost_node_fails_its_job_and_keeps_its_slots_until_it_says_gone() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"), task("H100:1"))
    s.phase("n1", "1.1", RUNNING)
    s.look()
    s.heard["n1"] = "down"
    (_, event) = s.look()
    assert isinstance(event, Lost)
    assert (s.state.ended[1].status, s.state.ended[1].reason) == ("FAILED", "lost contact with node n1")
    assert s.state.nodes["n1"].gpus[0].holders == {"1.1": 1000}
    s.heard["n1"] = "up"
    s.look()
    assert s.running == []
    s.phase("n1", "1.1", Phase("ended", code=143))
    events = s.look()
    assert [type(e) for e in events] == [Gone, Started]
    assert s.running == [2]


def test_a_job_that_asked_for_it_runs_again_elsewhere() -> None:
    s = Scenario(n1="H100:1", n2="H100:1")
    s.drop(task("H100:1", restartable=True))
    s.heard["n1"] = "down"
    s.look()
    assert (s.state.jobs[1].key, s.state.jobs[1].allocations[0].node) == ("1.2", "n2")
    assert s.state.held == {(1, 1): {"n1"}}


def test_a_gang_with_a_lost_node_first_stops_its_other_ranks() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2))
    s.heard["n2"] = "down"
    s.look()
    assert s.state.jobs[1].stop == "FAILED"
    s.phase("n1", "1.1", ended(143))
    s.look()
    assert s.state.ended[1].status == "FAILED"
    assert s.state.held == {(1, 1): {"n2"}}
    assert s.state.nodes["n1"].shares == {}


def test_jobs_of_a_node_that_was_stopped_on_purpose_are_waited_for() -> None:
    s = Scenario(n1="")
    s.drop(task())
    s.node("n1", left=True, heard="down")
    s.look()
    assert s.running == [1]


def test_what_could_never_run_says_so_and_is_ended_after_a_while() -> None:
    s = Scenario(n1="H100:4")
    s.drop(task("H100:8"))
    assert s.state.jobs[1].reason == "asks for 1x[H100:8], and there is: 1 node with H100:4, 64 CPUs, 64 GiB"
    assert s.look(after=500) == []
    s.node("n2", "H100:8", heard="down")
    assert [type(e) for e in s.look()][-1] is Waiting
    assert s.state.jobs[1].reason == ""
    del s.reports["n2"]
    s.state.apply(NodeChanged(name="n2", at=s.now, state="removed"))
    s.look()
    s.look(after=700)
    assert s.state.ended[1].status == "FAILED"


def test_a_gpu_that_vanishes_while_held_is_kept_until_it_is_free() -> None:
    s = Scenario(n1="H100:2")
    s.drop(task("H100:2"))
    s.reports["n1"].gpus.pop()
    s.node("n1", "H100:1", attempts={})
    s.look()
    assert [slot.present for slot in s.state.nodes["n1"].gpus] == [True, False]
    s.finish(1)
    assert len(s.state.nodes["n1"].gpus) == 1


def test_a_job_that_its_own_node_ended_after_losing_contact_runs_again_if_it_asked_for_that() -> None:
    s = Scenario(n1="H100:1", n2="")
    s.drop(task("H100:1", restartable=True), task())
    for key in ("1.1", "2.1"):
        node = s.state.jobs[int(key[0])].allocations[0].node
        s.phase(node, key, ended(137, fenced=True, reason="ended by its node, which had lost contact"))
    s.look()
    assert s.state.jobs[1].key == "1.2"
    assert (s.state.ended[2].status, s.state.ended[2].reason) == ("FAILED", "ended by its node, which had lost contact")


def test_a_gang_of_which_one_rank_was_fenced_runs_again_when_the_others_are_gone() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2, restartable=True))
    s.phase("n2", "1.1", ended(137, fenced=True))
    (event,) = s.look()
    assert isinstance(event, Stopping) and event.status is Status.PENDING
    s.phase("n1", "1.1", ended(143))
    assert [type(e) for e in s.look()] == [Returned, Started]


def test_a_job_that_failed_before_its_node_was_lost_does_not_run_again() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(nodes=2, restartable=True))
    s.phase("n2", "1.1", Phase("exited", code=3))
    s.look()
    s.heard["n2"] = "down"
    s.phase("n1", "1.1", ended(143))
    s.look()
    assert (s.state.ended[1].status, s.state.ended[1].reason) == ("FAILED", "rank 1: run ended with exit code 3")


def test_nobody_waits_for_a_stopped_node_to_carry_out_a_cancel() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:1"))
    s.node("n1", "H100:1", left=True, heard="down")
    s.look(requests=(Request("request-x", "k1", 0, "root", "cancel", (1,)),))
    s.look()
    assert s.state.ended[1].status == "CANCELLED"
    assert s.state.nodes["n1"].gpus[0].holders == {"1.1": 1000}


def test_a_job_whose_host_was_rebooted_runs_again_if_it_asked_for_that() -> None:
    s = Scenario(n1="", n2="")
    s.drop(task(restartable=True), task())
    for job in list(s.state.jobs.values()):
        s.phase(job.allocations[0].node, job.key, Phase("lost"))
    s.look()
    assert (s.state.jobs[1].key, s.state.ended[2].status) == ("1.2", "FAILED_DRIVER")


def test_what_many_jobs_wait_for_is_asked_once_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By shape: a tick costs what has changed, not what waits."""
    s = Scenario(n1="H100:1")
    asked = Counter[str]()
    monkeypatch.setattr("spoold.core.decide.could_ever", lambda *a: asked.update(["could"]) or could_ever(*a))
    monkeypatch.setattr("spoold.core.scheduler.place", lambda *a: asked.update(["place"]) or place(*a))
    monkeypatch.setattr("tests.core.builders.broken", lambda state: [])  # which asks for itself
    monkeypatch.setattr("tests.core.builders.decide_anew", lambda *_: ANY)  # and so does this
    s.drop(*[task("H100:1"), task("A100:1"), task("H100:2")] * 50)
    assert asked == {"could": 3, "place": 4}
    asked.clear()
    assert s.look() == []
    assert asked == {}  # nothing has happened since
    s.drop(task("H100:2"))
    assert asked == {"place": 3}  # what nodes there are is what it was


def test_what_nobody_could_serve_is_asked_again_when_a_node_changes() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:2"))
    assert s.state.jobs[1].unsatisfiable_since is not None
    s.node("n1", "H100:2")
    s.look()
    assert s.running == [1]
