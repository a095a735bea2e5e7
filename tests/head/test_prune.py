"""What the head removes once a day as `keep:` says, and what it never touches."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from spool_layout.settings import Keep
from spool_layout.storage import Disk, Entry
from spoold.head.prune import EVERY, Pruner
from tests.head.stage import CPU, SETTINGS, Stage

YEAR = 366 * 86400.0


def logs_of(s: Stage, name: str, age: float, size: int = 1) -> Path:
    """The log directory of a job, whose log was written so many seconds ago."""
    folder = Path(s.spool.log_dir(s.job(name).id))
    folder.mkdir(exist_ok=True)
    log = folder / "run.log"
    log.write_bytes(b"x" * size)
    os.utime(log, (time.time() - age,) * 2)
    return folder


def prune(s: Stage, keep: Keep, later: float = YEAR) -> None:
    """A whole round, so many seconds from now."""
    assert s.term is not None
    pruner = Pruner(s.spool, Disk(), msgspec.structs.replace(SETTINGS, keep=keep), s.term.state)
    while pruner.step(time.time() + later):
        pass


def given_up(s: Stage) -> None:
    """a ended; n2 is lost, and b with it, which may run there still."""
    s.node("n1")
    s.drop("a")
    s.run()
    s.node("n2")
    s.run()
    s.drop("b")
    s.run()
    s.finish("a")
    s.hearing.said["n2"] = "down"
    s.look()
    assert not s.job("b").live and not s.job("a").live


KEPT = [Keep(done=1.0, logs=1.0), Keep(done=1.0, logs_size=0)]


@pytest.mark.parametrize("keep", KEPT, ids=["by age", "by size"])
def test_nothing_goes_of_an_attempt_that_a_lost_node_may_still_run(folder: Path, keep: Keep) -> None:
    s = Stage(folder)
    given_up(s)
    a, b = logs_of(s, "a", age=0), logs_of(s, "b", age=1000)
    prune(s, keep)
    assert (a.exists(), (b / "run.log").exists()) == (False, True)
    day = Path(s.spool.day(s.job("b").day))
    assert {path.name for path in day.glob("*.yaml")} >= {"2.b.FAILED.yaml"}
    s.hearing.said["n2"] = "up"
    s.run()  # n2 is back, and has stopped it
    prune(s, keep, YEAR + EVERY)
    assert not b.exists() and not day.exists()


def test_the_room_of_logs_that_stay_is_not_taken_from_those_that_may_go(folder: Path) -> None:
    s = Stage(folder)
    given_up(s)
    a = logs_of(s, "a", age=0, size=5000)
    logs_of(s, "b", age=1000, size=500_000)
    prune(s, Keep(logs_size=10_000))
    assert a.exists()


@pytest.mark.parametrize("patient", [False, True], ids=["between two ticks", "by cron"])
@pytest.mark.parametrize(
    ("keep", "left"),
    [(Keep(logs=1.5 * YEAR), 10), (Keep(logs_size=40_960), 10), (Keep(logs=1.5 * YEAR, logs_size=20_480), 5)],
    ids=["by age", "by size", "by both"],
)
def test_few_of_many_logs_are_looked_at_between_two_ticks(
    folder: Path, keep: Keep, left: int, patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a million it would take minutes in which no job starts. What goes are the oldest."""
    monkeypatch.setattr("spoold.head.prune.AT_ONCE", 3)
    s = Stage(folder)
    s.look()
    assert s.term is not None
    s.term.state.next_id = 21
    for number in range(1, 21):
        log = Path(s.spool.log_dir(number), "run.log")
        log.parent.mkdir()
        log.write_bytes(b"x" * 4096)
        os.utime(log, (time.time() - (YEAR if number > 10 else number),) * 2)
    looked = set[str]()

    class Noted(Disk):
        def list(self, path: str) -> list[Entry]:
            looked.update([path] if Path(path).parent == Path(s.spool.logs) else [])
            return super().list(path)

    pruner = Pruner(s.spool, Noted(), msgspec.structs.replace(SETTINGS, keep=keep), s.term.state)
    while pruner.step(time.time() + YEAR, patient):
        assert patient or len(looked) <= 3
        looked.clear()
    assert sorted(map(int, os.listdir(s.spool.logs))) == list(range(1, left + 1))


def test_what_stands_in_logs_and_done_and_is_no_jobs_of_this_spool_stays(folder: Path) -> None:
    s = Stage(folder)
    s.drop("a", CPU)
    s.look()
    names = [Path(s.spool.logs, name) for name in ("7", "notes", "9" * 30)]
    names += [Path(s.spool.done, name) for name in ("2020-99-99", "old")]
    for path in names:
        path.mkdir()
        os.utime(path, (0, 0))
    prune(s, Keep(done=1.0, logs=1.0, logs_size=0))
    assert all(path.exists() for path in names)


def test_a_file_that_cannot_be_removed_stops_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Disk):
        def remove(self, path: str) -> None:
            if path.endswith("1.yaml"):
                raise PermissionError(13, "Permission denied", path)
            super().remove(path)

    s = Stage(folder)
    s.look()
    for number in range(3):
        Path(s.spool.rejected, f"{number}.yaml").touch()
    assert s.term is not None
    settings = msgspec.structs.replace(SETTINGS, keep=Keep(rejected=1.0))
    pruner = Pruner(s.spool, Refusing(), settings, s.term.state)
    assert pruner.step(time.time() + YEAR) is False
    assert os.listdir(s.spool.rejected) == ["1.yaml"]
    assert f"{s.spool.rejected}/1.yaml is not pruned: Permission denied" in caplog.text
