"""What is replaced in filelock for the lock of the heads is still what filelock works with; and whom this host knows to
be dead."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from spool_layout import holder, leadership, storage
from spool_layout.leadership import WHOLE, HeadLock
from spool_layout.mounts import Mount
from spool_layout.paths import Spool
from spool_layout.records import HolderNote, decode, encode
from spool_layout.settings import Settings

SETTINGS = msgspec.structs.replace(Settings(format=1, id="0" * 16, name="test"), lock_heartbeat=0.1, lock_threshold=5.0)


def test_no_file_of_the_lock_is_opened_for_reading_so_that_its_server_gives_a_delegation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "_without_delegations", (f"{tmp_path}/",))
    spool = Spool(str(tmp_path))
    os.mkdir(os.path.dirname(spool.head_lock))
    opened: dict[str, int] = {}
    real = os.open

    def recorded(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        ours = dir_fd is not None or str(path).startswith(spool.root)
        if ours and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_DIRECTORY:
            opened[os.path.basename(path)] = flags & os.O_DIRECT
        return real(path, flags & ~os.O_DIRECT, *rest, dir_fd=dir_fd)  # tmpfs has no such thing

    monkeypatch.setattr(os, "open", recorded)
    locks = [HeadLock(spool, SETTINGS) for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        assert locks[0].acquire(1.0)
        assert not locks[1].acquire(0.3)
    locks[0].release()
    assert not caplog.records
    assert {"HEAD", "epoch"} <= opened.keys()
    assert sum(len(name) == 32 for name in opened) == 2, "records of two holders"
    assert [name for name, direct in opened.items() if not direct] == []


# ---- a holder that is dead, on a disk of this host

LONG = msgspec.structs.replace(SETTINGS, lock_heartbeat=2000.0, lock_threshold=5000.0)


class Pair:
    """A lock that is held, and one that is wanted."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        os.mkdir(self.spool.locks)
        self.holder, self.next = HeadLock(self.spool, LONG), HeadLock(self.spool, LONG)
        assert self.holder.acquire()

    def die(self) -> None:
        """What the kernel does when the holder's process is gone: its descriptors are closed, its files stay."""
        assert self.holder._holder is not None
        self.holder._holder.let_go()

    def note(self) -> HolderNote:
        return decode(Path(self.spool.holder).read_bytes(), HolderNote, "")

    def rewrite(self, **fields: object) -> None:
        """What another host, or an earlier boot, would have left."""
        Path(self.spool.holder).write_bytes(encode(msgspec.structs.replace(self.note(), **fields)))

    def beat(self) -> str:
        """What filelock's thread does each lock_heartbeat."""
        hold = self.holder._lock._hold
        assert hold is not None
        return hold.participant.heartbeat()[0]

    def records(self) -> dict[str, bytes]:
        return self.next.holders() or {}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.holder.release()
    made.next.release()


def follows(pair: Pair) -> bool:
    return follows_with(pair.next)


def follows_with(lock: HeadLock) -> bool:
    """Whether one look and one attempt are enough."""
    return lock.is_free() and lock.acquire()


def test_a_holder_that_died_is_followed_at_once_and_its_record_is_gone(pair: Pair) -> None:
    (dead,) = pair.records()
    assert not follows(pair) and pair.next.is_led()
    pair.die()
    assert not pair.next.is_led() and follows(pair)
    (record,) = pair.records()
    assert record != dead and pair.note().record == record
    assert pair.beat() == "lost", "should it have lived after all"
    other = HeadLock(pair.spool, LONG)
    assert not follows_with(other) and other.is_led()


UNKNOWN: dict[str, Callable[[Pair], object]] = {
    "no note": lambda pair: os.unlink(pair.spool.holder),
    "torn": lambda pair: os.truncate(pair.spool.holder, 20),
    "empty": lambda pair: os.truncate(pair.spool.holder, 0),
    "of an earlier hold": lambda pair: pair.rewrite(record="0" * 32),
    "of an earlier hold in an earlier boot": lambda pair: pair.rewrite(record="0" * 32, boot="another"),
    "of no record's name": lambda pair: pair.rewrite(record="../holders"),
    "without a boot": lambda pair: pair.rewrite(boot=""),
    "of another host": lambda pair: pair.rewrite(boot="another", machine="another"),
    "of another boot of who knows whom": lambda pair: pair.rewrite(boot="another", machine=""),
    "through another mount": lambda pair: pair.rewrite(device=-1),
}


@pytest.mark.parametrize("harm", UNKNOWN)
def test_a_holder_of_whom_nothing_is_known_is_waited_for(pair: Pair, harm: str) -> None:
    pair.die()
    UNKNOWN[harm](pair)
    assert not pair.next.is_free(), "an attempt costs ten times a look"
    assert not follows(pair) and not pair.next.is_led()


def test_a_holder_that_is_stopped_is_waited_for_whatever_boot_its_note_says(pair: Pair) -> None:
    """As SIGSTOP does: it holds what it holds. Containers of one kernel may have boot ids of their own."""
    assert not follows(pair)
    pair.rewrite(boot="of a container")
    assert not follows(pair)


@pytest.mark.parametrize("lost", [False, True], ids=["its record stands", "its record was lost"])
def test_a_holder_of_the_boot_before_is_followed_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    pair.die()
    if lost:
        os.unlink(pair.spool.lock_record(*pair.records()))
    monkeypatch.setattr(holder, "boot", lambda: "the next boot")
    assert follows(pair)


def test_a_holder_is_not_taken_for_dead_while_it_gives_the_lock_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = pair.holder._lock.release

    def release(*, force: bool = False) -> None:
        seen.append(pair.next._dead())
        real(force=force)

    monkeypatch.setattr(pair.holder._lock, "release", release)
    pair.holder.release()
    assert seen == [""] and follows(pair)


def test_a_holder_that_cannot_leave_its_note_leads_and_renews_as_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.makedirs(tmp_path / "locks/holder.json/in the way")
    spool = Spool(tmp_path)
    lock, other = HeadLock(spool, LONG), HeadLock(spool, LONG)
    assert lock.acquire() and "another waits for lock_threshold" in caplog.text
    assert not other.is_free() and not other.is_led()
    lock.release()
    assert follows_with(other)
    other.release()


def test_over_a_network_no_note_is_left_and_none_is_believed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.die()
    monkeypatch.setattr(leadership, "mount_of", lambda _: Mount("nfs4", "", "", ""))
    other = HeadLock(pair.spool, LONG)
    assert not other.is_free() and not other.is_led()
    pair.holder.release()
    before = pair.note()
    assert follows_with(other) and pair.note() == before
    other.release()


# ---- what renewing costs there


@pytest.mark.parametrize("changed", ["_bury", "_be_known"])
def test_where_filelock_has_changed_inside_a_head_leads_all_the_same(
    pair: Pair, changed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object) -> None:
        raise AttributeError(f"no {changed}")

    monkeypatch.setattr(HeadLock, changed, missing)
    if changed == "_bury":
        pair.die()
        assert not follows(pair) and not pair.next.is_led()  # it waits for the threshold
    pair.holder.release()
    assert pair.next.acquire() and pair.next.held
    assert "filelock has changed" in caplog.text
    assert not HeadLock(pair.spool, LONG).is_led()


def test_of_twenty_renewals_one_is_filelocks_own_and_each_shows(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others open nothing: two calls each, on a descriptor."""
    opened, real = 0, os.open

    def counted(*words: object, **more: object) -> int:
        nonlocal opened
        opened += 1
        return real(*words, **more)  # type: ignore[arg-type]  # whatever os.open was given is passed on as it is

    whole = 0
    for _ in range(2 * WHOLE):
        before, opened = pair.records(), 0
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", counted)
            assert pair.beat() == "ok"
        whole += bool(opened)
        assert pair.records().keys() == before.keys() and pair.records() != before
    assert whole == 2
    assert {len(record) for record in pair.records().values()} == {len(record) for record in before.values()}


def test_a_holder_whose_record_another_head_removed_finds_that_at_its_next_renewal(pair: Pair) -> None:
    assert [pair.beat(), pair.beat()] == ["ok", "ok"]
    os.unlink(pair.spool.lock_record(*pair.records()))
    assert pair.beat() == "lost"


def test_a_renewal_after_the_lock_was_let_go_writes_nowhere(pair: Pair, tmp_path: Path) -> None:
    """Its descriptor may be another file by then."""
    assert pair.beat() == "ok"
    pair.die()
    other = tmp_path / "events"
    with other.open("wb"):
        assert pair.beat() == "lost"
    assert other.read_bytes() == b""
