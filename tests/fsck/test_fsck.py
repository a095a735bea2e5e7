"""`spoold fsck`: every kind of damage is found and nothing else is; what --repair mends is mended once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from spool_layout import history
from spool_layout.paths import Spool
from spool_layout.records import Assigned, Ledger, NodeStatus, Phase, decode, encode
from spool_layout.settings import Settings, load
from spool_layout.storage import Disk
from spoold.fsck.checking import look
from spoold.fsck.facts import gather
from spoold.fsck.judging import REFUSED, Finding, judge
from spoold.fsck.mending import mend
from tests.e2e.cluster import Cluster, running
from tests.head.stage import CPU, SETTINGS, Killed, Mortal, Stage

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


def later_ledger_of_a_head_that_vouched_for_none(s: Stage) -> str:
    s.term = None
    s.look()
    return later_ledger(s)


def changed_ledger(s: Stage) -> str:
    ledger = decode(Path(s.spool.ledger).read_bytes(), Ledger, "")
    ledger.next_id += 5
    Path(s.spool.ledger).write_bytes(encode(ledger))
    return "ledger.json"


def waits_in_running(s: Stage) -> str:
    """A file of a waiting job where only those of started ones stand."""
    file = s.job("waits").file
    shutil.copy(s.spool.dropped(file), s.spool.started(file))
    return f"running/{file}"


def untold_reason(s: Stage) -> str:
    os.unlink(Path(s.spool.rejected, "bad.error"))
    return "rejected/bad.yaml"


MENDED = [
    waits_in_running,
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
    later_ledger_of_a_head_that_vouched_for_none,
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


def all_at_once(folder: Path) -> Stage:
    """A dead spool with everything wrong that can be mended, but for what excludes one another."""
    stage = Stage(folder / "spool")
    close(stage.spool)
    for name in ("over", "before"):
        stage.drop(name, CPU)
    stage.bad("bad", "x")
    stage.node("n1", gpus=1)
    stage.drop("runs")
    stage.drop("waits")
    stage.run()
    stage.finish("over", "before")
    stage.write_ledger()
    for damage in (stray_in_claims, stray_in_running, twin_in_running, waits_in_running, untold_reason):
        damage(stage)
    for damage in (forgotten_in_running, later_ledger, open_directory, missing_directory):
        damage(stage)
    stage.term = None
    return stage


def test_a_repair_that_is_cut_anywhere_and_done_again_has_the_result_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a kill loses nothing
    damaged = all_at_once(tmp_path / "damaged").spool.root
    texts = files(Spool(damaged))
    results = []
    untroubled = Mortal()
    for at in (None, *range(1, 200)):
        if at is not None and at > len(untroubled.done):
            break
        spool = Spool(tmp_path / str(at))
        shutil.copytree(damaged, spool.root)
        if at is None:
            assert mend(spool, untroubled, SETTINGS, damaged=False)
        else:
            with pytest.raises(Killed):
                mend(spool, Mortal(at), SETTINGS, damaged=False)
            mend(spool, Disk(), SETTINGS, damaged=False)
        assert judge(gather(spool, Disk(), SETTINGS.id)) == [], untroubled.done[(at or 1) - 1]
        assert texts <= files(spool)
        results.append(standing(spool))
        shutil.rmtree(spool.root)
    assert len(results) > 20
    assert [result for result in results if result != results[0]] == []


def standing(spool: Spool) -> list[str]:
    """The names of users' files, with the directory in which they stand, and the reasons."""
    found = [str(path.relative_to(spool.root)) for path in Path(spool.root).rglob("*.yaml")]
    return sorted(found + [f"{path.name}: {path.read_text()}" for path in Path(spool.rejected).glob("*.error")])


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


def removed_file(s: Stage) -> str:
    os.unlink(s.spool.dropped(s.job("waits").file))
    return f"pending/{s.job('waits').file}"


def missing_assignment(s: Stage) -> str:
    os.unlink(s.spool.assigned("n1"))
    return "nodes/n1/assigned.json"


def older_assignment(s: Stage) -> str:
    """As a deposed head may leave it."""
    path = Path(s.spool.assigned("n1"))
    assigned = decode(path.read_bytes(), Assigned, "")
    path.write_bytes(encode(msgspec.structs.replace(assigned, attempts={"1.1": assigned.attempts["2.1"]})))
    return "nodes/n1/assigned.json"


def stray_attempt(s: Stage) -> str:
    n1 = s.nodes["n1"]
    n1.phases["1.9"], n1.orders["1.9"] = Phase("running"), msgspec.structs.replace(n1.orders["2.1"], gpus=[])
    n1.report()
    return "nodes/n1/status.json"


def older_ledger(s: Stage) -> str:
    """A head was cut when its next generation was vouched for."""
    before = Path(s.spool.ledger).read_bytes()
    assert s.term is not None
    s.term.keeper.write()
    Path(s.spool.ledger).write_bytes(before)
    return "ledger.json"


def superfluous_generation(s: Stage) -> str:
    Path(s.spool.generation(1, 999)).write_bytes(b"{")
    return "ledger/1.999.json"


UNFINISHED = [
    removed_file,
    missing_assignment,
    older_assignment,
    stray_attempt,
    torn_tail,
    missing_ledger,
    damaged_ledger,
    claimed,
    ended_in_running,
    damaged_assignment,
    older_ledger,
    superfluous_generation,
]


def test_what_its_node_says_is_over_may_still_be_listed(dead: Stage) -> None:
    """For a while, that is; what another head wrote is told (older_assignment)."""
    path = Path(dead.spool.assigned("n1"))
    assigned = decode(path.read_bytes(), Assigned, "")
    listed = {**assigned.attempts, "1.1": assigned.attempts["2.1"]}
    path.write_bytes(encode(msgspec.structs.replace(assigned, attempts=listed)))
    assert [finding.place for finding in findings(dead)] == ["nodes/n1/assigned.json"]
    dead.nodes["n1"].phases["1.1"] = Phase("ended", code=0)
    dead.nodes["n1"].report()
    assert findings(dead) == []


@pytest.mark.parametrize("cut", UNFINISHED)
def test_what_a_head_left_half_done_is_no_fault_and_the_next_head_does_it(
    dead: Stage, cut: Callable[[Stage], str]
) -> None:
    place = cut(dead)
    dead.term = None
    assert [(f.place, f.fault, f.mend) for f in findings(dead)] == [(place, False, "")]
    dead.run()
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


def changed_in_running(s: Stage) -> str:
    Path(s.spool.started(s.job("runs").file)).write_text("run: another\n...\n")
    return "running/2.runs.yaml"


def directory_in_running(s: Stage) -> str:
    os.unlink(s.spool.started(s.job("runs").file))
    os.mkdir(s.spool.started(s.job("runs").file))
    return "running/2.runs.yaml"


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


def wrong_label(s: Stage) -> str:
    job = s.job("over")
    os.rename(s.spool.ended(job.day, job.file, job.status), s.spool.ended(job.day, job.file, "FAILED"))
    return f"done/{job.day}/{job.id}.over.FAILED.yaml"


def wrong_day(s: Stage) -> str:
    job = s.job("over")
    s.disk.make_dir(s.spool.day("2020-02-02"))
    os.rename(s.spool.ended(job.day, job.file, job.status), s.spool.ended("2020-02-02", job.file, job.status))
    return f"done/2020-02-02/{job.id}.over.SUCCEEDED.yaml"


def assignment_of_the_future(s: Stage) -> str:
    path = Path(s.spool.assigned("n1"))
    path.write_bytes(encode(msgspec.structs.replace(decode(path.read_bytes(), Assigned, ""), version=(99, 1))))
    return "nodes/n1/assigned.json"


def status_of_another_node(s: Stage) -> str:
    path = Path(s.spool.status("n1"))
    path.write_bytes(encode(msgspec.structs.replace(decode(path.read_bytes(), NodeStatus, ""), node="n2")))
    return "nodes/n1/status.json"


def newer_format(s: Stage) -> str:
    path = Path(s.spool.status("n1"))
    path.write_bytes(encode(msgspec.structs.replace(decode(path.read_bytes(), NodeStatus, ""), format=99)))
    return "nodes/n1/status.json"


def double_grant(s: Stage) -> str:
    """Two whole holders of one GPU, as only a wrong program could write it."""
    assert s.term is not None
    slot = s.term.state.nodes["n1"].gpus[0]
    slot.holders["1.1"] = 1000
    s.term.keeper.write()
    return "events"


TOLD = [
    wrong_label,
    wrong_day,
    assignment_of_the_future,
    status_of_another_node,
    newer_format,
    hole,
    damaged_history,
    missing_generation,
    damaged_status,
    damaged_owner,
    logs_of_the_future,
    done_of_the_future,
    done_too_early,
    changed_in_running,
    directory_in_running,
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


def test_another_file_in_running_is_told_and_stays_there_as_a_head_leaves_it(dead: Stage) -> None:
    text = Path(dead.spool.started(dead.job("runs").file)).read_text()
    place = Path(dead.spool.root, changed_in_running(dead))
    dead.term = None
    (found,) = findings(dead)
    assert found.text == "is not what was accepted as job 2" and "the job fails: put back" in found.remedy
    assert repaired(dead) == []
    assert findings(dead) == [found]
    place.write_text(text)
    assert findings(dead) == []


def test_a_file_of_another_user_in_running_is_told_where_there_are_several(dead: Stage) -> None:
    facts = gather(dead.spool, Disk(), SETTINGS.id)
    name = dead.job("runs").file
    theirs = {name: facts.running[name]._replace(uid=4711)}
    assert judge(msgspec.structs.replace(facts, running=theirs)) == []
    found = judge(msgspec.structs.replace(facts, running=theirs, users="multi"))
    ours = judge(msgspec.structs.replace(facts, users="multi"))
    assert [(f.place, f.fault, f.mend) for f in found if f not in ours] == [(f"running/{name}", True, "")]
    assert f"belongs to user 4711, and job 2 is user {os.getuid()}'s" in {f.text for f in found}


def test_a_file_in_running_that_may_not_be_read_is_no_finding(dead: Stage) -> None:
    facts = gather(dead.spool, Disk(), SETTINGS.id)
    hidden = {name: label._replace(digest=None) for name, label in facts.running.items()}
    assert hidden and judge(msgspec.structs.replace(facts, running=hidden)) == []


@pytest.mark.parametrize("damage", [torn_line, untold_reason])
def test_what_a_power_loss_may_leave_for_good_is_told_and_is_no_fault(
    dead: Stage, damage: Callable[[Stage], str]
) -> None:
    place = damage(dead)
    dead.term = None
    assert [(f.place, f.fault) for f in findings(dead)] == [(place, False)]


def test_a_reason_that_is_missing_is_written_as_the_events_say_it(dead: Stage) -> None:
    told = Path(dead.spool.rejected, "bad.error").read_text()
    untold_reason(dead)
    dead.term = None
    repaired(dead)
    assert Path(dead.spool.rejected, "bad.error").read_text() == told
    assert findings(dead) == []


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


def picture(root: str) -> dict[str, tuple[int, int, int, bytes]]:
    """What stands on a spool besides what living daemons write by themselves: mode, inode, time, text."""
    found = {}
    for path in sorted(Path(root).rglob("*")):
        place = str(path.relative_to(root))
        if not re.match(r"(locks|heads|events|ledger|logs|tmp)\b|nodes/n1\b", place):
            info = path.lstat()
            found[place] = info.st_mode, info.st_ino, info.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return found


def test_damage_of_a_living_spool_is_told_with_what_repair_would_do_and_nothing_is_changed(cluster: Cluster) -> None:
    cluster.head().node("n1").ready()
    over = cluster.add("over.yaml", "run: 'true'\n...\n")
    assert cluster.ended(over) == ["SUCCEEDED"]
    gate = cluster.gate()
    runs = cluster.add("runs.yaml", f"run: {gate}\n...\n")
    cluster.runs(runs)
    waits = cluster.add("waits.yaml", "resources: {accelerators: H100:1}\nrun: 'true'\n...\n")
    day = (job := cluster.job(over)) and job.day
    cluster.eventually(lambda: Path(cluster.spool.day(day), "1.over.SUCCEEDED.yaml").exists())
    sound = fsck(cluster)
    assert (sound.returncode, sound.stdout) == (0, f"{cluster.spool.root} is sound\n"), sound.stderr

    Path(cluster.spool.claims, "mine.yaml").write_text(CPU)
    Path(cluster.spool.running, "77.nobody.yaml").write_text(CPU)
    Path(cluster.spool.running, "2.runs.yaml").write_text(CPU)
    Path(cluster.spool.day(day), "1.over.SUCCEEDED.yaml").rename(Path(cluster.spool.day(day), "1.over.FAILED.yaml"))
    before, beat = picture(cluster.spool.root), Path(cluster.spool.status("n1")).read_bytes()
    told = fsck(cluster)
    assert told.stdout.splitlines() == [
        "fault       claims/mine.yaml: is in no head's claim directory",
        "            --repair: move it to rejected/, with the reason beside it",
        "fault       running/2.runs.yaml: is not what was accepted as job 2",
        f"            {REFUSED}",
        "fault       running/77.nobody.yaml: is the file of no job that was started",
        "            --repair: move it to rejected/, with the reason beside it",
        f"fault       done/{day}/1.over.FAILED.yaml: job 1 ended as SUCCEEDED on {day}",
        f"            a label that is wrong: move it to done/{day}/1.over.SUCCEEDED.yaml",
        f"{cluster.spool.root}: 4 faults",
    ]
    assert (told.returncode, told.stderr) == (1, "")
    assert picture(cluster.spool.root) == before
    assert Path(cluster.spool.status("n1")).read_bytes() != beat, "the runner was at work meanwhile"
    gate.open()
    assert cluster.ended(runs) == ["SUCCEEDED"]
    assert cluster.statuses()[waits] == "PENDING"


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
