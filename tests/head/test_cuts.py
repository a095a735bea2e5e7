"""A head is killed before each of its operations on the disk, one after the other: the next one makes it good.

Each story is told as many times as its head makes operations. Stage.audit asks at the end of each: no file of a user
was lost, doubled or accepted twice; each attempt ran at most once; no slot is left held; what ended is told in done/.
After each tick a reader who replays the events sees what the head believes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from spool_layout.events import Returned
from spool_layout.records import Phase
from spool_layout.states import Status
from spoold.head import observe
from tests.head.stage import CPU, GPU, Stage, cuts


def start_a_before_b(s: Stage) -> None:
    """One GPU: a runs, b waits. (Two that are dropped at once may change places when a head is killed between them.)"""
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()


def accept(s: Stage) -> None:
    """Two that start at once, one that waits, two that are no tasks, all found by one look."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.drop("b")
    s.drop("c", CPU)
    s.bad("x", "first")
    s.look()
    s.bad("x", "second")
    s.run()
    s.finish("a", "c")
    s.finish("b")
    assert all(s.job(name).status is Status.SUCCEEDED for name in "abc")


def cancel(s: Stage) -> None:
    """One that runs, one that waits, one that is dropped together with its cancellation."""
    start_a_before_b(s)
    s.request("cancel: a", "one.yaml")
    s.run()
    s.drop("c")
    s.run()
    s.request("cancel: c", "two.yaml")
    s.run()
    s.request("cancel: d", "three.yaml")
    s.drop("d", CPU)
    s.run()
    s.finish("a", "b", "d")
    assert s.job("a").status is s.job("c").status is Status.CANCELLED
    assert s.job("b").status is Status.SUCCEEDED


def edit(s: Stage) -> None:
    """A waiting file is written anew, edited in place, made into nonsense and good again; then it starts."""
    start_a_before_b(s)
    s.replace("b")
    s.run()
    s.edit("b", "resources: {accelerators: H100:1}\nrun: echo in place NAME\n...\n")
    s.run()
    s.edit("b", "- NAME\n...\n")
    s.run()
    s.replace("b")
    s.finish("a")
    s.finish("b")
    assert s.job("b").status is Status.SUCCEEDED


def edit_at_the_start(s: Stage) -> None:
    """The file of a waiting job is edited in place when its slots have just become free: it runs as edited."""
    start_a_before_b(s)
    for node in s.nodes.values():
        node.over.add("a")
        node.step()
    s.edit("b")
    s.run()
    s.finish("b")
    assert s.job("b").status is Status.SUCCEEDED
    assert [text for _, text in s.nodes["n1"].ran] == [GPU.replace("NAME", mark) for mark, n in s.texts.items() if n]


def delete(s: Stage) -> None:
    """A waiting file is removed, another one when it is to start; the same name is dropped again."""
    s.node("n1", gpus=1)
    for name in "abcd":
        s.drop(name)
        s.look()
    s.run()
    s.delete("b")
    s.run()
    for node in s.nodes.values():
        node.over.add("a")
        node.step()
    s.delete("c")
    s.run()
    s.finish("a")
    s.finish("d")
    assert s.job("b").status is s.job("c").status is Status.CANCELLED
    assert s.job("d").status is Status.SUCCEEDED


def lose_a_node(s: Stage) -> None:
    """A node is lost with two jobs; one fails, one asked to run again and does so elsewhere; the node comes back."""
    s.node("n1", gpus=2)
    s.drop("a")
    s.drop("b", "resources: {accelerators: H100:1, job_recovery: failover}\nrun: echo NAME\n...\n")
    s.run()
    s.hearing.said["n1"] = "down"
    s.node("n2", gpus=2)
    s.run()
    s.finish("b")
    s.hearing.said["n1"] = "up"
    s.run()
    assert s.job("a").status is Status.FAILED
    assert s.job("b").status is Status.SUCCEEDED


def gang(s: Stage) -> None:
    """Two ranks on two nodes; the second one waits for the first."""
    s.node("n1", gpus=1)
    s.node("n2", gpus=1)
    text = "num_nodes: 2\nresources: {accelerators: H100:1}\nrun: echo NAME\n...\n"
    s.drop("a", text)
    s.drop("b", text)
    s.run()
    s.finish("a")
    s.finish("b")
    assert s.job("a").status is s.job("b").status is Status.SUCCEEDED


def take_back(s: Stage) -> None:
    """Grants are taken back: of a job whose file was edited when the head had looked at it, and before it took it; of
    one that its node, which was stopped meanwhile, never began."""
    start_a_before_b(s)
    for node in s.nodes.values():
        node.over.add("a")
        node.step()
    s.edit("b")
    with unseen_edits():
        s.look()
    s.run()
    s.drop("c", CPU)
    s.look()
    s.nodes["n1"].phases[s.job("c").key] = Phase("never", reason="the node was stopped when it was to start")
    s.finish("b", "c")
    assert s.job("c").status is Status.SUCCEEDED and s.job("c").attempt == 2
    *others, b = s.jobs()["b"]  # a head that takes over while b starts takes the file as edited for a job of its own
    assert b.status is Status.SUCCEEDED and all(job.status is Status.CANCELLED for job in others)
    assert s.term is not None
    taken_back = [event.in_running for event in s.events() if isinstance(event, Returned)]
    assert taken_back == [False, True] or (s.term.epoch.number > 1 and taken_back == [True])
    [mark] = [mark for mark, name in s.texts.items() if name == "b"]
    assert [text for _, text in s.nodes["n1"].ran if f"{mark}\n" in text] == [GPU.replace("NAME", mark)]


@contextmanager
def unseen_edits() -> Iterator[None]:
    """No head looks whether what waits was edited in place."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("CHECKED_AT_ONCE", "CHECKED_SOON"):
            patched.setattr(observe, name, 0)
        yield


def keep_ledgers(s: Stage) -> None:
    """Generations are written and older events packed away, between an acceptance and an end."""
    start_a_before_b(s)
    s.write_ledger()
    s.finish("a")
    s.term = None  # another head
    s.run()
    s.write_ledger()
    s.finish("b")
    s.write_ledger()
    assert s.job("a").status is s.job("b").status is Status.SUCCEEDED


def surface(s: Stage) -> None:
    """A restored spool: its node runs attempts of a waiting job and of one that no event knows."""
    start_a_before_b(s)
    n1 = s.nodes["n1"]
    for key in ("2.1", "9.1"):
        n1.phases[key], n1.orders[key] = Phase("running", pid=7), msgspec.structs.replace(n1.orders["1.1"], gpus=[])
    n1.report()
    s.run()
    assert s.job("b").status is Status.FAILED and s.job("b").reason.startswith("restored")
    assert "2.1" not in n1.phases and "9.1" not in n1.phases
    s.deleted.add("job")  # of job 9 there is no file
    s.drop("c")
    s.finish("a")
    s.finish("c")
    assert s.job("a").status is s.job("c").status is Status.SUCCEEDED and s.job("c").id == 10


STORIES = [accept, cancel, edit, edit_at_the_start, delete, lose_a_node, gang, take_back, keep_ledgers, surface]


def let_nodes_act(stage: Stage) -> None:
    for node in stage.nodes.values():
        node.step()


@pytest.mark.parametrize("story", [accept, cancel, edit, delete, gang], ids=lambda story: story.__name__)
def test_nodes_that_act_before_the_next_head_does_find_nothing_half_done(
    story: Callable[[Stage], None], folder: Path
) -> None:
    """What a node starts between a kill and the next head is what was accepted, and is there."""
    for what, stage in cuts(folder, story):
        stage.meanwhile = partial(let_nodes_act, stage)
        try:
            story(stage)
            stage.audit()
            never = [key for node in stage.nodes.values() for key in node.refused]
            assert never == [], f"a node was told of what is not there: {never}"
        except BaseException as error:
            error.add_note(f"{story.__name__}: {what}")
            raise


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_head_that_is_killed_before_any_operation_is_made_good(story: Callable[[Stage], None], folder: Path) -> None:
    for what, stage in cuts(folder, story):
        try:
            story(stage)
            assert stage.killed == 1
            stage.audit()
        except BaseException as error:
            error.add_note(f"{story.__name__}: {what}")
            raise
