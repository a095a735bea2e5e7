"""A log is looked for by its name only when its directory has stood still: looking too early may hide it on NFS 3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skyspool import logfiles
from skyspool.logfiles import Folder, Reader


class Clock:
    """The monotonic clock and the pause of logfiles, as a hand moves them."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logfiles, "time", clock)
    return clock


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "logs" / "7"
    place.mkdir(parents=True)
    return place


def change(place: Path, stamp: int) -> None:
    """Something was made in a directory."""
    os.utime(place, ns=(stamp, stamp))


def test_it_is_too_early_until_the_directory_has_stood_still_for_longer_than_a_step(place: Path, clock: Clock) -> None:
    folder = Folder(str(place), 1)
    assert not folder.may_look() and folder.restless
    clock.sleep(Folder.STEP / 2)
    assert not folder.may_look()
    clock.sleep(Folder.STEP)
    assert folder.may_look() and not folder.restless
    change(place, 5)
    clock.sleep(Folder.STEP * 2)
    assert not folder.may_look()


def test_a_change_above_counts_as_well(place: Path, clock: Clock) -> None:
    folder = Folder(str(place))
    folder.wait()
    assert folder.may_look()
    change(place.parent, 5)
    clock.sleep(Folder.STEP)
    assert not folder.may_look()


def test_what_is_missing_below_a_directory_that_stands_still_may_be_asked_for_and_is_not_waited_for(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "logs").mkdir()
    folder = Folder(str(tmp_path / "logs" / "7"))
    folder.wait()
    assert not folder.may_look() and not folder.restless


def test_one_that_changes_all_the_time_is_looked_into_after_a_while(place: Path, clock: Clock) -> None:
    folder, looks = Folder(str(place), 1), 0
    while not folder.may_look():
        looks += 1
        change(place, looks)
        clock.sleep(0.02)
    assert looks * 0.02 == pytest.approx(Folder.BUSY, rel=0.1)
    clock.sleep(Folder.STEP * 2)
    assert folder.may_look()
    change(place, 0)
    clock.sleep(Folder.STEP * 2)
    assert not folder.may_look(), "it has stood still in between"


def test_all_is_looked_at_when_nothing_is_made_any_more(place: Path, clock: Clock) -> None:
    folder = Folder(str(place))
    reader = Reader(str(place / "run.log"), 0, folder)
    (place / "run.log").write_text("said")
    assert reader.new() == b""
    folder.over = True
    assert reader.new() == b"said"


def test_a_log_that_was_seen_is_read_without_more_care(place: Path, clock: Clock) -> None:
    folder = Folder(str(place))
    reader = Reader(str(place / "run.log"), 0, folder)
    (place / "run.log").touch()
    folder.wait()
    clock.sleep(Folder.STEP)
    assert reader.new() == b"" and reader.is_there()
    (place / "run.log").write_text("said")
    change(place, 5)
    assert reader.new() == b"said"
