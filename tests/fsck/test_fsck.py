"""`spoold fsck`: every kind of damage is found and nothing else is; what --repair mends is mended once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout import history
from spool_layout.paths import Spool
from spool_layout.records import Ledger, Phase, decode, encode
from spool_layout.settings import Settings, load
from spool_layout.storage import Disk
from spoold.fsck.checking import look
from spoold.fsck.facts import gather
from spoold.fsck.judging import Finding, judge
from spoold.fsck.mending import mend
from tests.e2e.cluster import Cluster, running
from tests.head.stage import CPU, SETTINGS, Stage

DAY = "done/"


@pytest.fixture
def dead(tmp_path: Path) -> Stage:
    """A spool without daemons in which a job runs, one waits, one ended and one was rejected."""
    stage = Stage(tmp_path)
    close(stage.spool)
    stage.node("n1", gpus=1)
    stage.drop("over", CPU)
    stage.run()
    stage.finish("over")
    stage.drop("runs")
    stage.run()
    stage.drop("waits")
    stage.bad("bad", "x")
    stage.run()
    stage.write_ledger()
    return stage


def close(spool: Spool) -> None:
    """As `skyspool init` makes it."""
    for folder in (spool.tmp, spool.pending, spool.requests, spool.claims):
        os.chmod(folder, 0o700)


def findings(stage: Stage) -> list[Finding]:
    return judge(gather(stage.spool, Disk(), SETTINGS.id))


def repaired(stage: Stage) -> list[Finding]:
    """What --repair mends."""
    return mend(stage.spool, Disk(), SETTINGS, damaged=False)


def newest(spool: Spool) -> Path:
    return Path(spool.events_of(history.epochs(spool, Disk())[-1]))


def test_a_spool_on_which_everything_happened_is_sound(dead: Stage) -> None:
    assert findings(dead) == []


def test_a_spool_that_was_just_made_is_sound(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    close(stage.spool)
    assert findings(stage) == []


# ---- what --repair mends --------------------------------------------------------------------------------------


def missing_directory(s: Stage) -> str:
    shutil.rmtree(s.spool.requests)
    return "requests"


def open_directory(s: Stage) -> str:
    os.chmod(s.spool.pending, 0o755)
    return "pending"


def writable_directory(s: Stage) -> str:
    os.chmod(s.spool.events, 0o777)
    return "events"


def stray_in_claims(s: Stage) -> str:
    Path(s.spool.claims, "mine.yaml").write_text(CPU)
    return "claims/mine.yaml"


def stray_in_running(s: Stage) -> str:
    Path(s.spool.running, "77.nobody.yaml").write_text(CPU)
    return "running/77.nobody.yaml"


def twin_in_running(s: Stage) -> str:
    """A second file of a job that runs."""
    Path(s.spool.running, "2.other.yaml").write_text(CPU)
    return "running/2.other.yaml"


def forgotten_in_running(s: Stage) -> str:
    """Of a job that the ledger has forgotten as ended: no head looks for it."""
    job = s.job("over")
    os.rename(s.spool.ended(job.day, job.file, job.status), s.spool.started(job.file))
    forget(s, job.id)
    return f"running/{job.file}"


def forget(s: Stage, ident: int) -> None:
    """A new generation that does not hold a job."""
    assert s.term is not None
    s.term.keeper.settings = Settings(format=1, id=SETTINGS.id, name="test", recent=0)
    s.term.keeper.write()
    assert s.term.state.find(ident) is None


def untold_outcome(s: Stage) -> str:
    day = s.job("over").day
    for file in Path(s.spool.day(day)).glob("*.jsonl"):
        file.unlink()
    return f"done/{day}"


def foreign_ledger(s: Stage) -> str:
    ledger = decode(Path(s.spool.ledger).read_bytes(), Ledger, "")
    ledger.spool = "s" + "1" * 16
    Path(s.spool.ledger).write_bytes(encode(ledger))
    return "ledger.json"


def later_ledger(s: Stage) -> str:
    ledger = decode(Path(s.spool.ledger).read_bytes(), Ledger, "")
    ledger.seq += 7
    Path(s.spool.ledger).write_bytes(encode(ledger))
    return "ledger.json"


def changed_ledger(s: Stage) -> str:
    ledger = decode(Path(s.spool.ledger).read_bytes(), Ledger, "")
    ledger.next_id += 5
    Path(s.spool.ledger).write_bytes(encode(ledger))
    return "ledger.json"


MENDED = [
    missing_directory,
    open_directory,
    writable_directory,
    stray_in_claims,
    stray_in_running,
    twin_in_running,
    forgotten_in_running,
    untold_outcome,
    foreign_ledger,
    later_ledger,
    changed_ledger,
]


@pytest.mark.parametrize("damage", MENDED)
def test_what_can_be_mended_is_found_mended_and_then_sound(dead: Stage, damage: Callable[[Stage], str]) -> None:
    place = damage(dead)
    dead.term = None
    found = findings(dead)
    assert [(f.place, f.fault, bool(f.mend)) for f in found] == [(place, True, True)]
    before = files(dead.spool)
    assert repaired(dead) == found
    assert findings(dead) == []
    assert before <= files(dead.spool), "a user's text was lost"
    assert repaired(dead) == []


def files(spool: Spool) -> set[str]:
    """Every text of a user's file on the spool."""
    return {path.read_text() for path in Path(spool.root).rglob("*.yaml")}


def test_a_stray_file_is_set_aside_with_the_reason(dead: Stage) -> None:
    place = stray_in_running(dead)
    dead.term = None
    repaired(dead)
    assert Path(dead.spool.rejected, "nobody.yaml").read_text() == CPU
    assert place in Path(dead.spool.rejected, "nobody.error").read_text()


def test_a_file_whose_place_in_done_is_taken_is_set_aside(dead: Stage) -> None:
    job = dead.job("over")
    target = Path(dead.spool.ended(job.day, job.file, job.status))
    text = target.read_text()
    forgotten_in_running(dead)
    dead.term = None
    target.write_text("another\n")
    repaired(dead)
    assert findings(dead) == []
    assert target.read_text() == "another\n"
    assert [p.read_text() for p in Path(dead.spool.rejected).glob("over*.yaml")] == [text]


# ---- what the next head does ----------------------------------------------------------------------------------


def torn_tail(s: Stage) -> str:
    with newest(s.spool).open("ab") as file:
        file.write(b'{"event":"accep')
    return f"events/{newest(s.spool).name}"


def missing_ledger(s: Stage) -> str:
    os.unlink(s.spool.ledger)
    return "ledger.json"


def damaged_ledger(s: Stage) -> str:
    Path(s.spool.ledger).write_bytes(b"{")
    return "ledger.json"


def claimed(s: Stage) -> str:
    assert s.term is not None
    Path(s.term.epoch.claims, "new-9-late.yaml").write_text(CPU)
    return f"claims/{os.path.basename(s.term.epoch.claims)}"


def ended_in_running(s: Stage) -> str:
    job = s.job("over")
    os.rename(s.spool.ended(job.day, job.file, job.status), s.spool.started(job.file))
    return f"running/{job.file}"


def damaged_assignment(s: Stage) -> str:
    Path(s.spool.assigned("n1")).write_bytes(b"{")
    return "nodes/n1/assigned.json"


def superfluous_generation(s: Stage) -> str:
    Path(s.spool.generation(1, 999)).write_bytes(b"{")
    return "ledger/1.999.json"


UNFINISHED = [
    torn_tail,
    missing_ledger,
    damaged_ledger,
    claimed,
    ended_in_running,
    damaged_assignment,
    superfluous_generation,
]


@pytest.mark.parametrize("cut", UNFINISHED)
def test_what_a_head_left_half_done_is_no_fault_and_the_next_head_does_it(
    dead: Stage, cut: Callable[[Stage], str]
) -> None:
    place = cut(dead)
    dead.term = None
    assert [(f.place, f.fault, f.mend) for f in findings(dead)] == [(place, False, "")]
    dead.look()
    dead.write_ledger()
    assert findings(dead) == []


# ---- what nobody but a person can mend ------------------------------------------------------------------------


def hole(s: Stage) -> str:
    """A record of the newest event file is damaged, and whole ones stand behind."""
    for name in ("one", "two"):
        s.drop(name)
        s.look()
    path = newest(s.spool)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(b'"', b"'")
    path.write_bytes(b"".join(lines))
    return f"events/{path.name}"


def damaged_history(s: Stage) -> str:
    """A sealed record is damaged."""
    assert s.term is not None
    s.term = None
    s.drop("later", CPU)
    s.look()
    path = Path(s.spool.events_of(history.epochs(s.spool, Disk())[0]))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    return "events"


def missing_generation(s: Stage) -> str:
    for path in Path(s.spool.generations).glob("*.json"):
        path.unlink()
    return "events"


def damaged_status(s: Stage) -> str:
    Path(s.spool.status("n1")).write_bytes(b"{")
    return "nodes/n1/status.json"


def damaged_owner(s: Stage) -> str:
    Path(s.spool.owner("n1")).write_bytes(b"{")
    return "nodes/n1/owner.json"


def logs_of_the_future(s: Stage) -> str:
    os.makedirs(s.spool.log_dir(4711))
    return "logs"


def done_of_the_future(s: Stage) -> str:
    Path(s.spool.day(s.job("over").day), "4711.x.FAILED.yaml").write_text(CPU)
    return "done"


def done_too_early(s: Stage) -> str:
    job, day = s.job("runs"), s.job("over").day
    shutil.copy(s.spool.started(job.file), s.spool.ended(day, job.file, "FAILED"))
    return f"done/{day}/{job.id}.runs.FAILED.yaml"


def torn_line(s: Stage) -> str:
    path = next(Path(s.spool.day(s.job("over").day)).glob("*.jsonl"))
    with path.open("ab") as file:
        file.write(b'{"id":')
    return f"done/{path.parent.name}/{path.name}"


def later_epoch(s: Stage) -> str:
    s.nodes["n1"].seen = (99, 1)
    s.nodes["n1"].report()
    return "nodes/n1/status.json"


def later_assignment(s: Stage) -> str:
    epoch, number = s.nodes["n1"].seen
    s.nodes["n1"].seen = (epoch, number + 1)
    s.nodes["n1"].report()
    return "nodes/n1/status.json"


def later_job(s: Stage) -> str:
    s.nodes["n1"].phases["4711.1"] = Phase("running")
    s.nodes["n1"].orders["4711.1"] = s.nodes["n1"].orders["2.1"]
    s.nodes["n1"].report()
    return "nodes/n1/status.json"


def double_grant(s: Stage) -> str:
    """Two whole holders of one GPU, as only a wrong program could write it."""
    assert s.term is not None
    slot = s.term.state.nodes["n1"].gpus[0]
    slot.holders["1.1"] = 1000
    s.term.keeper.write()
    return "events"


TOLD = [
    hole,
    damaged_history,
    missing_generation,
    damaged_status,
    damaged_owner,
    logs_of_the_future,
    done_of_the_future,
    done_too_early,
    torn_line,
    later_epoch,
    later_assignment,
    later_job,
    double_grant,
]


@pytest.mark.parametrize("damage", TOLD)
def test_what_nobody_can_know_is_told_and_left_as_it_is(dead: Stage, damage: Callable[[Stage], str]) -> None:
    place = damage(dead)
    found = [f for f in findings(dead) if f.fault]
    assert {(f.place, f.mend) for f in found} == {(place, "")}
    assert all(f.remedy for f in found)


# ---- the command, and a spool that lives ----------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path) as made:
        close(made.spool)
        yield made


def fsck(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spoold", "fsck", cluster.spool.root, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def tree(root: str) -> dict[str, tuple[int, int]]:
    """Every file and directory with its size and modification time."""
    found = {}
    for folder, _, names in os.walk(root):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            info = os.lstat(path)
            found[path] = info.st_size, info.st_mtime_ns
    return found


def test_the_command_tells_changes_nothing_and_repairs_when_it_is_told_to(cluster: Cluster) -> None:
    cluster.once("head")
    Path(cluster.spool.running, "5.x.yaml").write_text(CPU)
    before = tree(cluster.spool.root)
    told = fsck(cluster, "-o", "json")
    found = json.loads(told.stdout)
    assert told.returncode == 1 and not found["sound"]
    assert [f["place"] for f in found["findings"]] == ["running/5.x.yaml"]
    assert tree(cluster.spool.root) == before
    assert "running/5.x.yaml" in fsck(cluster).stdout
    done = fsck(cluster, "--repair")
    assert done.returncode == 0 and "is sound" in done.stdout, done.stdout + done.stderr
    assert Path(cluster.spool.rejected, "x.yaml").read_text() == CPU
    before = tree(cluster.spool.root)
    assert fsck(cluster, "--repair").returncode == 0
    assert tree(cluster.spool.root) == before


def test_nothing_is_repaired_while_a_head_leads(cluster: Cluster) -> None:
    cluster.head().ready()
    Path(cluster.spool.running, "5.x.yaml").write_text(CPU)
    done = fsck(cluster, "--repair")
    assert done.returncode == 69 and "stop every head" in done.stderr
    assert Path(cluster.spool.running, "5.x.yaml").exists()


def test_a_busy_spool_has_no_findings(cluster: Cluster) -> None:
    cluster.head().node("n1", "H100:2").ready()
    settings, looks, end = load(cluster.spool, Disk()), 0, time.monotonic() + 5
    while time.monotonic() < end or cluster.state().finished < 3:
        for number in range(3):
            cluster.drop(f"j{looks}-{number}.yaml", "resources: {accelerators: H100:1}\nrun: 'true'\n...\n")
        found, _ = look(cluster.spool, Disk(), settings)
        assert found == []
        looks += 1
    assert looks > 3


def test_an_interrupted_spool_is_sound_after_any_kill(cluster: Cluster) -> None:
    cluster.head().node("n1", "H100:2").ready()
    for number in range(3):
        cluster.drop(f"k{number}.yaml", "run: 'true'\n...\n")
    cluster.eventually(lambda: cluster.state().next_id > 1)
    cluster.kill("head")
    cluster.kill("n1")
    found, _ = look(cluster.spool, Disk(), load(cluster.spool, Disk()))
    assert [f for f in found if f.fault] == []
