"""Epochs, seals, generations: what a taking-over head and a client believe, whatever was left on disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from spool_layout import history, leadership
from spool_layout.errors import Damaged, Deposed
from spool_layout.events import Accepted, Sealed, encode_event
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool
from spool_layout.records import Leader, Task
from spool_layout.replay import ImpossibleEvent, State
from spool_layout.settings import Settings
from spool_layout.storage import Disk, Entry
from spoold.head.keeping import Keeper

SETTINGS = Settings(format=1, id="0" * 16, name="test")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    for directory in made.directories:
        os.makedirs(directory, exist_ok=True)
    return made


def accepted(ident: int) -> Accepted:
    return Accepted(
        id=ident,
        name="x",
        file=f"{ident}.x.yaml",
        drop="x.yaml",
        uid=0,
        user="u",
        inode=ident,
        digest="d",
        task=Task(),
        submitted=1.0,
        at=2.0,
    )


def lead(spool: Spool) -> tuple[Epoch, State]:
    epoch = leadership.take(spool, Disk())
    assert epoch is not None
    return epoch, leadership.seal(epoch, Leader("host", 1, 1.0), time.time()).state


def present(spool: Spool) -> list[int]:
    return list(history.read_present(spool, Disk()).state.jobs)


def test_an_empty_spool_is_readable(spool: Spool) -> None:
    assert present(spool) == []


def test_a_new_head_goes_on_where_the_last_one_ended(spool: Spool) -> None:
    lead(spool)[0].append([accepted(1), accepted(2)])
    assert list(lead(spool)[1].jobs) == [1, 2] == present(spool)


def test_what_a_deposed_head_appends_never_happened(spool: Spool) -> None:
    old, _ = lead(spool)
    old.append([accepted(1)])
    new, _ = lead(spool)
    with pytest.raises(Deposed):
        old.append([accepted(2)])
    assert present(spool) == [1]
    new.append([accepted(2)])
    assert list(lead(spool)[1].jobs) == [1, 2]
    with pytest.raises(Deposed):
        old.append([accepted(3)])


def test_a_torn_record_is_sealed_off(spool: Spool) -> None:
    epoch, _ = lead(spool)
    epoch.append([accepted(1)])
    with open(epoch.file, "ab") as file:
        file.write(encode_event(accepted(2))[:-3])
    assert present(spool) == [1]
    newer, _ = lead(spool)
    newer.append([accepted(2)])
    with open(epoch.file, "ab") as file:
        file.write(b"abc\n" + encode_event(accepted(7)))
    assert list(lead(spool)[1].jobs) == [1, 2] == present(spool)


def test_an_epoch_that_was_claimed_and_never_sealed_holds_nothing(spool: Spool) -> None:
    lead(spool)[0].append([accepted(1)])
    dead = leadership.take(spool, Disk())
    assert dead is not None
    found = history.read_present(spool, Disk())
    assert found.taking_over
    epoch, state = lead(spool)
    assert (epoch.number, list(state.jobs)) == (3, [1])
    with pytest.raises(Deposed):
        leadership.seal(dead, Leader(), 1.0)
    assert list(lead(spool)[1].jobs) == [1]


def test_a_failed_append_ends_the_term(spool: Spool) -> None:
    epoch, _ = lead(spool)
    epoch.append([accepted(1)])
    os.truncate(epoch.file, 10)
    with pytest.raises(OSError, match="expected"):
        epoch.append([accepted(2)])
    with pytest.raises(Deposed):
        epoch.append([accepted(2)])


def keeper(spool: Spool, epoch: Epoch, state: State) -> Keeper:
    return Keeper(spool, Disk(), SETTINGS, epoch, state, time.time)


def commit(epoch: Epoch, state: State, ident: int) -> None:
    state.apply(accepted(ident))
    epoch.append([accepted(ident)])


def test_a_generation_replaces_the_events_before_it(spool: Spool) -> None:
    lead(spool)[0].append([accepted(1)])
    epoch, state = lead(spool)
    keep = keeper(spool, epoch, state)
    for ident in (2, 3):
        commit(epoch, state, ident)
        keep.write()
    commit(epoch, state, 4)
    assert history.epochs(spool, Disk()) == [2]
    assert os.listdir(spool.generations) == ["2.2.json"]
    assert present(spool) == [1, 2, 3, 4] == list(lead(spool)[1].jobs)


def test_what_a_head_read_before_it_claimed_its_epoch_is_read_again_only_where_more_counts(spool: Spool) -> None:
    epoch, state = lead(spool)
    keep = keeper(spool, epoch, state)
    commit(epoch, state, 1)
    keep.write()
    commit(epoch, state, 2)
    known = history.take_stock(spool, Disk(), 2)
    assert history.take_stock(spool, Disk(), 2, known) is known
    commit(epoch, state, 3)
    more = history.take_stock(spool, Disk(), 2, known)
    assert (list(known.state.jobs), list(more.state.jobs)) == ([1, 2], [1, 2, 3])
    keep.write()
    anew = history.take_stock(spool, Disk(), 2, more)
    assert anew is not more and anew.generation == (1, 2)
    new = leadership.take(spool, Disk())
    assert new is not None
    assert leadership.seal(new, Leader(), 1.0, known=anew).state is anew.state
    assert list(lead(spool)[1].jobs) == [1, 2, 3]


def test_a_head_that_takes_over_reads_a_long_file_once(spool: Spool) -> None:
    epoch, state = lead(spool)
    keep = keeper(spool, epoch, state)
    for ident in range(1, 30):
        commit(epoch, state, ident)
    keep.write()
    commit(epoch, state, 30)
    asked: list[int] = []

    class Noted(Disk):
        def read(self, path: str, start: int = 0) -> bytes | None:
            found = super().read(path, start)
            asked.extend([len(found or b"")] if path == epoch.file else [])
            return found

    known = history.take_stock(spool, Noted(), 2)
    length = os.path.getsize(epoch.file)
    assert asked[0] == length and all(count < length / 4 for count in asked[1:])
    asked.clear()
    assert history.take_stock(spool, Noted(), 2, known) is known and asked == [1]
    assert leadership.take(spool, Disk()) is not None  # an epoch of which the head has done nothing
    assert list(history.take_stock(spool, Noted(), 3, known).state.jobs) == list(range(1, 31))
    assert all(count < length / 4 for count in asked)


@pytest.mark.parametrize("cut", ["generation", "vouched", "ledger"])
def test_a_generation_cut_anywhere(spool: Spool, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lead(spool)[0].append([accepted(1)])
    epoch, state = lead(spool)
    keep = keeper(spool, epoch, state)
    commit(epoch, state, 2)
    steps = {"generation": (keep.epoch, "append"), "vouched": (keep.disk, "publish"), "ledger": (keep, "_pack")}
    target, method = steps[cut]
    real = getattr(target, method)

    def killed(*args: object, **more: object) -> object:
        if cut == "vouched" and args[0] != spool.ledger:
            return real(*args, **more)
        raise InterruptedError

    monkeypatch.setattr(target, method, killed)
    with pytest.raises(InterruptedError):
        keep.write()
    monkeypatch.undo()
    assert present(spool) == [1, 2] == list(lead(spool)[1].jobs)


def test_a_deposed_head_that_overwrites_the_ledger_fools_nobody(spool: Spool) -> None:
    old, state = lead(spool)
    commit(old, state, 1)
    keeper(spool, old, state).write()
    stale = Path(spool.ledger).read_bytes()
    new, state = lead(spool)
    commit(new, state, 2)
    keeper(spool, new, state).write()
    Path(spool.ledger).write_bytes(stale)
    assert present(spool) == [1, 2] == list(lead(spool)[1].jobs)


def test_damage_that_counts_is_told_not_skipped(spool: Spool) -> None:
    epoch, _ = lead(spool)
    epoch.append([accepted(1)])
    lead(spool)
    data = bytearray(Path(epoch.file).read_bytes())
    data[-30] ^= 1
    Path(epoch.file).write_bytes(data)
    with pytest.raises(Damaged, match="a record that counts is damaged"):
        lead(spool)


def test_a_hole_within_the_last_write_never_happened(spool: Spool) -> None:
    """A loss of power may leave any part of what was not synced."""
    epoch, _ = lead(spool)
    epoch.append([accepted(1)])
    before = Path(epoch.file).read_bytes()
    epoch.append([accepted(2), accepted(3), accepted(4)])
    lines = Path(epoch.file).read_bytes()[len(before) :].splitlines(keepends=True)
    for lost in (0, 1):
        left = [b"\0" * len(line) if number == lost else line for number, line in enumerate(lines)]
        Path(epoch.file).write_bytes(before + b"".join(left))
        assert present(spool) == list(range(1, 2 + lost)) == list(history.take_stock(spool, Disk(), 9).state.jobs)


@pytest.mark.parametrize("hole", [b"\0", b"\xff", b"\0" * 40])
def test_a_hole_before_a_later_write_is_damage_wherever_it_is(spool: Spool, hole: bytes) -> None:
    epoch, _ = lead(spool)
    start = epoch.offset
    epoch.append([accepted(1), accepted(2)])
    last = epoch.offset
    epoch.append([accepted(3)])
    data = Path(epoch.file).read_bytes()
    for place in [0, *range(start, last - len(hole) + 1, 7), last - len(hole)]:
        Path(epoch.file).write_bytes(data[:place] + hole + data[place + len(hole) :])
        with pytest.raises(Damaged, match="before records that were durable") as told:
            history.take_stock(spool, Disk(), 9)
        valid = history.decode_events(Path(epoch.file).read_bytes())[1]
        assert f"truncate -s {valid} {epoch.file}; then: spoold recover" in told.value.hint


def test_a_generation_that_is_not_what_was_vouched_for_is_told(spool: Spool) -> None:
    epoch, state = lead(spool)
    commit(epoch, state, 1)
    keeper(spool, epoch, state).write()
    path = Path(spool.generation(1, 1))
    path.write_bytes(path.read_bytes().replace(b'"next_id":2', b'"next_id":1'))
    with pytest.raises(Damaged, match="vouches"):
        lead(spool)


def test_the_seal_says_what_counts_of_every_epoch(spool: Spool) -> None:
    lead(spool)
    leadership.take(spool, Disk())
    epoch, _ = lead(spool)
    (first,), _ = history.decode_events(Path(epoch.file).read_bytes())
    assert isinstance(first, Sealed)
    assert first.seals == {1: os.path.getsize(spool.events_of(1)), 2: 0}


def test_impossible_events_tell_the_story() -> None:
    state = State()
    state.apply(accepted(1))
    with pytest.raises(ImpossibleEvent, match=r"1\.x\.yaml"):
        state.apply(accepted(1))


class Overtaken(Disk):
    """A disk on which the next head leads, and packs away all earlier epochs, whenever events/ was just listed."""

    def __init__(self, spool: Spool, times: int) -> None:
        self.spool, self.left = spool, times

    def list(self, path: str) -> list[Entry]:
        listed = super().list(path)
        if path == self.spool.events and self.left:
            self.left -= 1
            (number,) = history.epochs(self.spool, Disk())
            sealed = Sealed(number + 1, {}, (0, 0), Leader(), 1.0)
            Path(self.spool.events_of(number + 1)).write_bytes(encode_event(sealed))
            os.rename(self.spool.events_of(number), f"{self.spool.archive}/{number}.jsonl")
        return listed


@pytest.mark.parametrize("times", [0, 1, 3])
def test_which_epoch_leads_is_told_by_what_stands_there_when_all_that_was_listed_does(spool: Spool, times: int) -> None:
    lead(spool)
    assert history.leading(spool, Overtaken(spool, times)) == 1 + times


def test_where_heads_never_stop_overtaking_somebody_looks_no_longer_for_them(spool: Spool) -> None:
    lead(spool)
    disk = Overtaken(spool, 1000)
    assert history.leading(spool, disk) == 0
    assert disk.left == 1000 - history.LISTED_ANEW
