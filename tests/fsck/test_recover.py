"""A spool is taken back from a backup: daemons refuse it, `spoold recover` goes past what happened since."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from spool_layout import history
from spool_layout.errors import Damaged, Deposed
from spool_layout.events import Surfaced
from spool_layout.records import NodeStatus, Remnant, decode, encode
from spool_layout.storage import Disk
from spoold import restored
from spoold.core.invariants import broken
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge
from spoold.fsck.restoring import heard, recover
from spoold.restored import WentBack, refuse
from tests.e2e.cluster import Cluster, running, sleepers
from tests.head.stage import CPU, SETTINGS, Killed, Mortal, Stage

GPU = "resources: {{accelerators: H100:1}}\nrun: {}\n...\n"


@pytest.fixture
def fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for heads that are killed and not cut off from power: fsync is left out, and so are pauses."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(restored, "PAUSE", 0.0)
    return tmp_path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path) as made:
        yield made


def spoold(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(cluster.spoold(*words), capture_output=True, text=True, timeout=60)


def node(cluster: Cluster, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a node's daemon to its own end."""
    return spoold(cluster, "node", "--name", name, "--gpus", "H100:1", "--cpus", "8", "--memory", "64", *more)


def stop(cluster: Cluster) -> None:
    """Stop all daemons; their jobs go on."""
    for key in list(cluster.processes):
        cluster.kill(key, signal.SIGTERM)


def back_up(cluster: Cluster) -> str:
    copy = f"{cluster.spool.root}.backup"
    subprocess.run(["cp", "-a", cluster.spool.root, copy], check=True)
    return copy


def restore(cluster: Cluster, copy: str) -> None:
    shutil.rmtree(cluster.spool.root)
    subprocess.run(["cp", "-a", copy, cluster.spool.root], check=True)


def start(cluster: Cluster, *names: str) -> Cluster:
    cluster.head()
    for name in names:
        cluster.node(name, "H100:1")
    return cluster.ready()


def test_a_restored_spool_is_refused_and_recovered_without_giving_an_id_again(cluster: Cluster) -> None:
    start(cluster, "n1")
    gate = cluster.gate()
    first = cluster.add("first.yaml", GPU.format(gate))
    cluster.runs(first)
    waits = cluster.add("waits.yaml", GPU.format("echo yes"))
    later = cluster.add("later.yaml", GPU.format("echo yes"))
    stop(cluster)
    copy = back_up(cluster)

    start(cluster, "n1")
    gate.open()
    assert cluster.ended(first, waits, later) == ["SUCCEEDED"] * 3
    meanwhile = [cluster.add(f"m{number}.yaml", GPU.format("sleep 4711")) for number in range(2)]
    cluster.runs(meanwhile[0])
    given = cluster.state().next_id - 1
    stop(cluster)
    restore(cluster, copy)

    head = spoold(cluster, "head", "--once")
    assert head.returncode == 65 and f"spoold recover {cluster.spool.root}" in head.stderr, head.stderr
    silent = spoold(cluster, "recover")
    assert silent.returncode == 1 and "n1 has not been heard" in silent.stderr, silent.stderr
    assert cluster.state().next_id <= given  # nothing was changed
    refused = node(cluster, "n1")
    assert refused.returncode == 65 and f"spoold recover {cluster.spool.root}" in refused.stderr, refused.stderr
    assert sleepers(4711)  # what runs goes on until somebody decides
    checked = subprocess.run(
        [sys.executable, "-m", "spoold", "fsck", cluster.spool.root], capture_output=True, text=True
    )
    assert checked.returncode == 1 and "nodes/n1/status.json" in checked.stdout

    done = spoold(cluster, "recover")
    assert done.returncode == 0, done.stderr
    start(cluster, "n1")
    cluster.eventually(lambda: not sleepers(4711))
    cluster.eventually(lambda: not cluster.state().held)
    jobs = {ident: cluster.job(ident) for ident in (first, waits, later, meanwhile[0])}
    for ident, job in jobs.items():
        assert job and job.status == "FAILED" and job.reason.startswith("restored"), f"{ident}: {job}"
    told = jobs[meanwhile[0]]
    assert told and told.name == "m0" and told.uid == os.getuid()
    new = cluster.add("new.yaml", GPU.format("echo yes"))
    assert new > given
    assert cluster.ended(new) == ["SUCCEEDED"]
    cluster.eventually(lambda: not os.listdir(cluster.spool.running))
    assert not [name for name in os.listdir(cluster.spool.pending) if name.startswith(f"{waits}.")]
    again = spoold(cluster, "recover")
    assert again.returncode == 69  # a head leads
    cluster.quiet()


def test_a_backup_of_a_living_spool_is_refused_by_the_host_of_its_head(cluster: Cluster) -> None:
    """The head never stopped before the backup: no epoch is missing, only the end of one."""
    start(cluster, "n1", "n2")
    gate = cluster.gate()
    runs = cluster.add("runs.yaml", GPU.format(gate))
    cluster.runs(runs)
    copy = back_up(cluster)
    lost = cluster.add("lost.yaml", GPU.format("echo yes"))
    assert cluster.ended(lost) == ["SUCCEEDED"]
    cluster.eventually(lambda: not os.listdir(cluster.spool.running)[1:])
    for key in list(cluster.processes):
        cluster.kill(key)
    restore(cluster, copy)

    head = spoold(cluster, "head", "--once")
    assert head.returncode == 65 and "a head on this host wrote" in head.stderr, head.stderr
    codes = {node(cluster, name, "--once").returncode for name in ("n1", "n2")}
    assert 65 in codes
    idle = [name for name in ("n1", "n2") if '"went_back":true' not in Path(cluster.spool.status(name)).read_text()]
    done = spoold(cluster, "recover", *(word for name in idle for word in ("--without", name)))
    assert done.returncode == 0, done.stderr
    start(cluster, "n1", "n2")
    assert cluster.statuses()[lost] == "FAILED"
    if (job := cluster.job(runs)) and job.live:
        gate.open()
        assert cluster.ended(runs) == ["SUCCEEDED"]
    else:
        assert job and job.allocations[0].node in idle
    assert cluster.add("new.yaml", GPU.format("echo yes")) > lost
    assert broken(cluster.state()) == []


def test_a_node_that_was_left_out_gives_its_slots_back_when_it_returns(cluster: Cluster) -> None:
    start(cluster, "n1")
    runs = cluster.add("runs.yaml", GPU.format("sleep 4712"))
    cluster.runs(runs)
    stop(cluster)
    copy = back_up(cluster)
    assert cluster.once("head").returncode == 0
    restore(cluster, copy)
    assert "n1 has not been heard" in spoold(cluster, "recover").stderr
    assert spoold(cluster, "recover", "--without", "n1").returncode == 0
    assert cluster.statuses()[runs] == "FAILED" and cluster.state().held
    start(cluster, "n1")
    cluster.eventually(lambda: not sleepers(4712) and not cluster.state().held)
    assert cluster.ended(cluster.add("new.yaml", GPU.format("echo yes"))) == ["SUCCEEDED"]


def test_a_node_that_was_left_out_brings_back_what_it_began_and_nothing_runs_beside_it(cluster: Cluster) -> None:
    cluster.head().node("n1", "H100:2").ready()
    busy = cluster.add("busy.yaml", "resources: {accelerators: H100:2}\nrun: sleep 4713\n...\n")
    cluster.runs(busy)
    waits = cluster.add("waits.yaml", GPU.format("sleep 4714"))
    stop(cluster)
    copy = back_up(cluster)
    cluster.head().node("n1", "H100:2").ready()
    cluster.sky("cancel", cluster.name, "-y", str(busy))
    cluster.runs(waits)
    late = cluster.add("late.yaml", GPU.format("sleep 4715"))
    cluster.runs(late)
    stop(cluster)
    restore(cluster, copy)

    done = spoold(cluster, "recover", "--without", "n1")
    assert done.returncode == 0, done.stderr
    cluster.head().node("n2", "H100:1").ready()
    cluster.runs(waits)  # a second time, on n2
    new = cluster.add("new.yaml", "resources: {accelerators: H100:2}\nrun: echo yes\n...\n")
    assert len(sleepers(4714)) == 2 and len(sleepers(4715)) == 1
    cluster.node("n1", "H100:2")
    assert cluster.ended(new) == ["SUCCEEDED"]
    assert not sleepers(4715) and len(sleepers(4714)) == 1
    job = cluster.job(late)
    assert job and (job.status, job.name, job.uid) == ("FAILED", "late", os.getuid())
    assert cluster.statuses()[waits] == "RUNNING" and cluster.statuses()[busy] == "FAILED"
    (surfaced,) = [event for event in cluster.events() if isinstance(event, Surfaced) and event.over]
    order = [type(event).__name__ for event in cluster.events() if getattr(event, "id", 0) in (new, late, waits)]
    assert surfaced.over == [late] and order.index("Gone") < len(order) - 1 - order[::-1].index("Started")
    cluster.sound()


def test_a_spool_that_did_not_go_back_is_left_as_it_is(cluster: Cluster) -> None:
    start(cluster, "n1")
    assert cluster.ended(cluster.add("a.yaml", GPU.format("echo yes"))) == ["SUCCEEDED"]
    stop(cluster)
    before = os.listdir(cluster.spool.events)
    done = spoold(cluster, "recover")
    assert done.returncode == 0 and "nothing was changed" in done.stderr
    assert os.listdir(cluster.spool.events) == before
    start(cluster, "n1")


def test_a_hole_in_the_newest_event_file_is_refused_and_cut_off_by_what_the_hint_says(cluster: Cluster) -> None:
    start(cluster, "n1")
    first = cluster.add("first.yaml", GPU.format("echo yes"))
    assert cluster.ended(first) == ["SUCCEEDED"]
    cluster.kill("head")
    file = Path(cluster.spool.events_of(history.epochs(cluster.spool, Disk())[-1]))
    data = file.read_bytes()
    place = data.index(b'"event":"accepted"')
    file.write_bytes(data[:place] + b"#" + data[place + 1 :])
    refused = spoold(cluster, "head", "--once")
    assert refused.returncode == 65 and "before records that were durable" in refused.stderr, refused.stderr
    assert file.read_bytes()[place : place + 1] == b"#"
    hint = refused.stderr.partition("to that moment: ")[2].strip()
    cut, _, then = hint.partition("; then: ")
    subprocess.run(cut, shell=True, check=True)
    assert then == f"spoold recover {cluster.spool.root} --force"
    done = spoold(cluster, *then.split()[1:2], "--force")
    assert done.returncode == 0, done.stderr
    start(cluster)
    assert cluster.add("new.yaml", GPU.format("echo yes")) > first
    cluster.quiet()


def test_a_tail_that_this_host_made_durable_is_not_taken_for_a_write_that_was_cut(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "spool")
    stage.drop("a", CPU)
    stage.look()
    assert stage.term is not None
    restored.note_led(str(tmp_path), stage.term.epoch)
    file = Path(stage.term.epoch.file)
    data = file.read_bytes()
    file.write_bytes(data[:-20] + b"\0" * 20)
    with pytest.raises(Damaged, match="before records that were durable"):
        refuse(stage.spool, Disk(), str(tmp_path))
    refuse(stage.spool, Disk(), str(tmp_path / "another host"))  # nobody there can know


class Overtaken(Disk):
    """While the history is read, a head packs away what was just listed, so many times."""

    def __init__(self, stage: Stage, times: int) -> None:
        self.stage, self.left = stage, times

    def read(self, path: str, start: int = 0) -> bytes | None:
        found = super().read(path, start)
        if path == self.stage.spool.events_of(1) and self.left:
            self.left -= 1
            self.stage.drop(f"j{self.left}", CPU)
            self.stage.look()
            self.stage.write_ledger()
        return found


@pytest.mark.parametrize("times", [1, 2 * restored.LOOKS])
def test_heads_that_lead_while_another_one_asks_are_not_taken_for_damage(fast: Path, times: int) -> None:
    stage = Stage(fast / "spool")
    stage.write_ledger()
    disk = Overtaken(stage, times)
    refuse(stage.spool, disk, str(fast / "kept"))
    assert not disk.left
    with pytest.raises(Damaged):  # this was the moment
        history.take_stock(stage.spool, Overtaken(stage, 1), 2)


def test_who_is_always_overtaken_stands_by(fast: Path) -> None:
    stage = Stage(fast / "spool")
    stage.write_ledger()
    with pytest.raises(Deposed, match="kept taking over"):
        refuse(stage.spool, Overtaken(stage, 1000), str(fast / "kept"))


def test_what_a_node_learns_while_the_history_is_read_is_not_taken_for_a_restored_spool(fast: Path) -> None:
    stage = Stage(fast / "spool")
    stage.node("n1", gpus=0)
    stage.run()

    class Slow(Disk):
        dropped = 0

        def read(self, path: str, start: int = 0) -> bytes | None:
            found = super().read(path, start)
            if path == stage.spool.events_of(1):
                self.dropped += 1
                stage.drop(f"j{self.dropped}", CPU)
                stage.run()
            return found

    disk = Slow()
    refuse(stage.spool, disk, str(fast / "kept"))
    assert disk.dropped and f"{disk.dropped}.1" in stage.nodes["n1"].phases


# ---- recover is cut -------------------------------------------------------------------------------------------


def went_back(folder: Path, late: bool) -> tuple[Stage, int]:
    """A spool that was put back: its node began a waiting job meanwhile, and, if late, one that the spool never heard
    of. And the highest ID that was given."""
    stage = Stage(folder / "spool")
    for private in (stage.spool.tmp, stage.spool.pending, stage.spool.requests, stage.spool.claims):
        os.chmod(private, 0o700)
    n1 = stage.node("n1", gpus=1)
    stage.drop("runs")
    stage.run()
    stage.drop("waits")
    stage.run()
    stage.write_ledger()
    shutil.copytree(stage.spool.root, folder / "backup")
    stage.finish("runs")
    if late:
        stage.drop("late", CPU)
    stage.run()
    assert {key: phase.phase for key, phase in n1.phases.items()} == dict.fromkeys(
        ["2.1", "3.1"][: 1 + late], "running"
    )
    stage.term = None
    stage.write_ledger()
    stage.run()
    told = decode(Path(stage.spool.status("n1")).read_bytes(), NodeStatus, "")
    meanwhile = [Remnant(2, 1, name="waits", user="u"), Remnant(3, 1, name="late", user="u")][: 1 + late]
    told = msgspec.structs.replace(told, went_back=True, meanwhile=meanwhile)
    shutil.rmtree(stage.spool.root)
    shutil.copytree(folder / "backup", stage.spool.root)
    Path(stage.spool.status("n1")).write_bytes(encode(told))
    stage.term = None
    return stage, 2 + late


def recover_with(stage: Stage, disk: Disk, kept: Path) -> None:
    nodes = heard(stage.spool, disk, frozenset())
    recover(stage.spool, disk, SETTINGS, Lock(), str(kept), nodes)


class Lock:
    """Held, for these heads one after the other."""

    lost = False


def refused(stage: Stage, kept: Path) -> bool:
    try:
        refuse(stage.spool, Disk(), str(kept))
    except WentBack:
        return True
    return False


@pytest.mark.parametrize("late", [True, False])
def test_wherever_recover_is_cut_it_is_refused_still_or_done(fast: Path, late: bool) -> None:
    kept = fast / "kept"
    untroubled = Mortal()
    stage, _ = went_back(fast / "untroubled", late)
    assert refused(stage, kept)
    recover_with(stage, untroubled, kept)
    assert len(untroubled.done) > 10
    outcomes = set()
    for number, what in enumerate(untroubled.done, 1):
        stage, given = went_back(fast / str(number), late)
        jobs = range(1, given + 1)
        with pytest.raises(Killed):
            recover_with(stage, Mortal(number), kept)
        outcomes.add(again := refused(stage, kept))
        if again:
            recover_with(stage, Disk(), kept)
        assert not refused(stage, kept), what
        stage.run()  # the next head, and a node that ends what it is told to end
        state = history.read_present(stage.spool, Disk()).state
        assert {i: str(state.ended[i].status) for i in jobs} == dict.fromkeys(jobs, "FAILED"), what
        assert state.next_id > given and not state.held and not state.jobs, what
        stage.write_ledger()
        assert [f for f in judge(gather(stage.spool, Disk(), SETTINGS.id)) if f.fault] == [], what
        shutil.rmtree(fast / str(number))
    assert outcomes == {True, False}
