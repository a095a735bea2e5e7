"""Who starts now, and where: the reference text's examples, and what must hold for any jobs at all."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spool_layout.fit import could_ever, kinds
from spool_layout.lines import Lines
from spool_layout.records import WHOLE, GpuSlot, Job, Node, Share, Task
from spoold.core.placement import Fits, Room, Rooms, natural, place
from spoold.core.scheduler import schedule
from tests.core.builders import Scenario, demand, gpus, task


def test_job5_overtakes_job4_which_starts_when_the_gpus_come_free() -> None:
    s = Scenario(n1="H100:4")
    s.drop(task("H100:4"))
    s.drop(task("H100:1"), task("H100:1"), task("H100:4"), task("H100:2"))
    assert s.running == [1]
    s.finish(1)
    assert s.running == [2, 3, 5]
    s.finish(2)
    s.finish(3)
    assert s.running == [5]
    s.finish(5)
    assert s.running == [4]


def test_two_halves_share_one_gpu_and_the_third_waits() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("H100:0.5"), task("H100:0.5"), task("H100:0.5"))
    assert s.running == [1, 2]
    assert s.gpus_of(1) == s.gpus_of(2) == [{"n1/0": 500}]


def test_a_sharer_never_gets_a_gpu_with_a_whole_holder() -> None:
    s = Scenario(n1="H100:2")
    s.drop(task("H100:1"), task("H100:0.1"), task("H100:1"))
    assert s.running == [1, 2]
    assert s.gpus_of(2) == [{"n1/1": 100}]


def test_fractions_go_to_the_fullest_gpu_also_across_nodes() -> None:
    s = Scenario(n1="H100:1", n2="H100:2")
    s.drop(task("H100:2"))  # both of n2
    s.drop(task("H100:0.5"))  # n1
    s.finish(1)
    s.drop(task("H100:0.3"))
    assert s.gpus_of(3) == [{"n1/0": 300}]


def test_a_gang_starts_on_all_its_nodes_or_on_none() -> None:
    s = Scenario(n1="H100:8", n2="H100:8", n3="H100:8", n4="H100:8")
    s.drop(task("H100:8", nodes=3))
    s.drop(task("H100:4", nodes=2), task("H100:4"))
    assert s.running == [1, 3]
    s.finish(1)
    assert s.running == [2, 3]
    assert [a.node for a in s.state.jobs[2].allocations] == ["n1", "n4"]  # n4 is fuller


def test_ranks_are_numbered_by_the_nodes_natural_order() -> None:
    s = Scenario(n10="", n9="", n2="")
    s.drop(task(nodes=3))
    assert [a.node for a in s.state.jobs[1].allocations] == ["n2", "n9", "n10"]
    assert sorted(["b", "n10", "n2", "10", "9"], key=natural)[-3:] == ["b", "n2", "n10"]


def test_alternatives_are_tried_in_order() -> None:
    s = Scenario(n1="A100:1", n2="H100:1")
    s.drop(task("H100:1", "A100:1"), task("H100:1", "A100:1"), task("H100:1", "A100:1"))
    assert [a.node for i in (1, 2) for a in s.state.jobs[i].allocations] == ["n2", "n1"]
    assert s.running == [1, 2]


def test_sixteen_cpu_jobs_run_on_eight_cpus_in_order() -> None:
    s = Scenario(cpus=8, n1="")
    s.drop(*[task()] * 75)
    assert s.running == list(range(1, 17))


def test_memory_counts() -> None:
    s = Scenario(n1="")
    s.drop(*[task(memory=40000)] * 2)
    assert s.running == [1]


def test_accelerator_names_match_whatever_their_case() -> None:
    s = Scenario(n1="H100:1")
    s.drop(task("h100:1"))
    assert s.running == [1]


def test_nodes_that_are_not_heard_or_stopped_on_purpose_get_nothing() -> None:
    s = Scenario()
    s.node("n1", "H100:4", heard="lost contact")
    s.node("n2", "H100:4", left=True)
    s.drop(task("H100:1"))
    assert s.running == []
    s.heard["n1"] = "up"
    s.look()
    assert s.running == [1]


shapes = st.builds(
    Task,
    num_nodes=st.integers(1, 3),
    demands=st.lists(
        st.builds(
            demand,
            st.sampled_from(["", "H100:1", "H100:2", "H100:0.5", "H100:0.3", "A100:1", "A100:0.7"]),
            cpus=st.sampled_from([0.5, 1, 3]),
            memory=st.sampled_from([0, 1000]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)
clusters = st.lists(
    st.tuples(st.sampled_from(["", "H100:1", "H100:4", "A100:2", "H100:2,A100:1"]), st.integers(1, 8)),
    min_size=0,
    max_size=4,
)


def build(cluster: list[tuple[str, int]]) -> list[Node]:
    return [
        Node(f"n{i}", gpus=[GpuSlot(g) for g in gpus(f"n{i}", spec)], cpus_milli=1000 * cpus, memory_mb=2000)
        for i, (spec, cpus) in enumerate(cluster)
    ]


def job(ident: int, shape: Task) -> Job:
    return Job(ident, "", f"{ident}.j.yaml", "", 0, "", 0, "", shape, 0, 0)


def grant(nodes: list[Node], grants: list) -> None:  # type: ignore[type-arg]
    by_name = {node.name: node for node in nodes}
    for ident, allocations in grants:
        for a in allocations:
            by_name[a.node].shares[f"{ident}.1"] = Share(a.cpus_milli, a.memory_mb)
            for slot in by_name[a.node].gpus:
                if slot.gpu.uuid in a.gpus:
                    slot.holders[f"{ident}.1"] = a.gpus[slot.gpu.uuid]


@given(clusters, st.lists(shapes, max_size=12))
@settings(max_examples=300, deadline=None)
def test_nothing_is_oversubscribed_and_nothing_idles_that_a_job_could_use(cluster, tasks) -> None:  # type: ignore[no-untyped-def]
    nodes = build(cluster)
    queue = [job(i, shape) for i, shape in enumerate(tasks, 1)]
    grants = schedule(nodes, Lines(queue).waiting)
    assert grants == schedule(build(cluster), Lines(queue).waiting)
    for g in grants:
        wanted = tasks[g.id - 1]
        assert len({a.node for a in g.allocations}) == len(g.allocations) == wanted.num_nodes
        assert any(
            all(sum(a.gpus.values()) == d.milli and a.cpus_milli == d.cpus_milli for a in g.allocations)
            for d in wanted.demands
        )
    grant(nodes, grants)
    for node in nodes:
        assert all(sum(slot.holders.values()) <= WHOLE for slot in node.gpus)
        assert sum(share.cpus_milli for share in node.shares.values()) <= node.cpus_milli
        assert sum(share.memory_mb for share in node.shares.values()) <= node.memory_mb
    started = {g.id for g in grants}
    assert schedule(nodes, Lines(j for j in queue if j.id not in started).waiting) == []
    for waiting in (j for j in queue if j.id not in started):
        if not could_ever(waiting.task.demands, waiting.task.num_nodes, kinds(nodes)):
            assert schedule(build(cluster), Lines([waiting]).waiting) == []


@given(clusters, st.lists(st.sampled_from([0, 1, 2]), max_size=16), st.lists(shapes, min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_each_is_placed_as_if_all_rooms_were_looked_at_for_it(cluster, order, kinds_of_task) -> None:  # type: ignore[no-untyped-def]
    """What is remembered from one job of a shape to the next changes nothing, whoever took of the rooms between."""
    queue = [job(ident, kinds_of_task[which]) for ident, which in enumerate(order, 1)]
    one_by_one, rooms = {}, [Room(node) for node in build(cluster)]
    for waiting in queue:
        found = place(waiting.task.num_nodes, (Fits(d, Rooms(rooms)) for d in waiting.task.demands))
        if found is not None:
            one_by_one[waiting.id] = found
    assert dict(schedule(build(cluster), Lines(queue).waiting)) == one_by_one


@given(clusters, st.lists(shapes, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_first_job_that_could_start_alone_is_never_passed_over(cluster, tasks) -> None:  # type: ignore[no-untyped-def]
    queue = [job(i, shape) for i, shape in enumerate(tasks, 1)]
    started = {g.id for g in schedule(build(cluster), Lines(queue).waiting)}
    first = next((j.id for j in queue if schedule(build(cluster), Lines([j]).waiting)), None)
    assert first is None or first in started
