"""The port to the disk, on a real directory: the same suite is meant for every backend."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spool_layout import localdisk, stamps, storage
from spool_layout.localdisk import LocalDisk
from spool_layout.storage import Disk, Held, NotRegular


class LostReply(Disk):
    """NFS after a lost reply: the call was done, its repetition says that it could not be."""


@pytest.fixture(params=[Disk, LocalDisk])
def disk(request: pytest.FixtureRequest) -> Disk:
    made: Disk = request.param()
    return made


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_publish_replaces_whole_and_sets_the_mode_whatever_the_umask(disk: Disk, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        disk.publish(str(tmp_path / "x"), b"one", 0o644)
        disk.publish(str(tmp_path / "x"), b"two", 0o640)
    finally:
        os.umask(old)
    assert disk.read(str(tmp_path / "x")) == b"two"
    assert stat.S_IMODE(os.stat(tmp_path / "x").st_mode) == 0o640
    assert names(tmp_path) == ["x"]


def test_publish_new_never_replaces(disk: Disk, tmp_path: Path) -> None:
    assert disk.publish_new(str(tmp_path / "x"), b"one")
    assert not disk.publish_new(str(tmp_path / "x"), b"two")
    assert disk.read(str(tmp_path / "x")) == b"one"
    assert names(tmp_path) == ["x"]


def test_publish_new_believes_the_link_count_not_the_error(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def done_but_denied(*args: object, **more: object) -> None:
        real(*args, **more)  # type: ignore[arg-type]
        raise FileExistsError(errno.EEXIST, "a repeated call")

    monkeypatch.setattr("spool_layout.storage.os.link", done_but_denied)
    assert disk.publish_new(str(tmp_path / "x"), b"one")
    assert not disk.publish_new(str(tmp_path / "x"), b"two")


def test_move_believes_the_inode_not_the_error(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    inode = os.stat(tmp_path / "a").st_ino
    real = os.rename

    def done_but_denied(source: str, target: str) -> None:
        real(source, target)
        raise FileNotFoundError(errno.ENOENT, "a repeated call")

    monkeypatch.setattr("spool_layout.storage.os.rename", done_but_denied)
    assert disk.move(str(tmp_path / "a"), str(tmp_path / "b"), inode)
    monkeypatch.undo()
    assert not disk.move(str(tmp_path / "a"), str(tmp_path / "b"), inode + 1)


def test_append_writes_only_where_its_own_bytes_end(disk: Disk, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    disk.publish(path, b"")
    disk.append(path, b"one\n", 0)
    disk.append(path, b"two\n", 4)
    with pytest.raises(OSError, match="expected 4"):
        disk.append(path, b"three\n", 4)
    assert disk.read(path) == b"one\ntwo\n"


def test_inspect_reads_regular_files_only_and_never_waits(disk: Disk, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.symlink("/etc/passwd", tmp_path / "link")
    os.mkdir(tmp_path / "folder")
    for name in ("fifo", "link", "folder"):
        with pytest.raises(NotRegular):
            disk.inspect(str(tmp_path / name), 100)
    with pytest.raises(NotRegular):
        disk.inspect("/dev/null", 100)
    with pytest.raises(FileNotFoundError):
        disk.inspect(str(tmp_path / "none"), 100)


def test_inspect_tells_what_the_file_system_says(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    os.link(tmp_path / "x", tmp_path / "y")
    seen = disk.inspect(str(tmp_path / "x"), 4)
    assert (seen.data, seen.size, seen.links, seen.uid) == (b"01234", 10, 2, os.getuid())
    assert seen.inode == os.stat(tmp_path / "x").st_ino


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda path: path.write_bytes(b"behind"),
    "longer": lambda path: path.write_bytes(b"before that"),
    "linked": lambda path: os.link(path, path.with_name("link")),
    "closed": lambda path: path.chmod(0o600),
    "replaced": lambda path: [path.unlink(), path.with_name("other").rename(path)],
}


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_a_known_file_is_read_again_only_where_it_is_another_one_by_now(
    change: str | None, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, moved = tmp_path / "x", tmp_path / "moved"
    for name in ("x", "other"):
        (tmp_path / name).write_bytes(b"before")
        os.utime(tmp_path / name, (1, 1))
    known = disk.inspect(str(path), 100)
    path.rename(moved)
    if change:
        CHANGES[change](moved)
    read: list[int] = []
    read_all = storage._read_all
    monkeypatch.setattr(storage, "_read_all", lambda *words: (read.append(1), read_all(*words))[1])
    again = disk.inspect(str(moved), 100, known)
    assert again == disk.inspect(str(moved), 100)
    assert len(read) == (2 if change else 1)


def test_a_file_open_for_writing_is_held(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("w"):
        assert disk.is_held_for_writing(str(path))
    assert not disk.is_held_for_writing(str(path))


def test_listing_tells_inodes_and_dot_files(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / ".x").write_text("")
    assert [(e.name, e.inode) for e in disk.list(str(tmp_path))] == [(".x", os.stat(tmp_path / ".x").st_ino)]
    with pytest.raises(FileNotFoundError):
        disk.list(str(tmp_path / "none"))


def test_directories(disk: Disk, tmp_path: Path) -> None:
    path = str(tmp_path / "d")
    assert disk.make_dir(path, 0o700) and not disk.make_dir(path)
    (tmp_path / "d" / "x").write_text("")
    assert not disk.remove_dir(path)
    disk.remove(f"{path}/x")
    disk.remove(f"{path}/x")
    assert disk.remove_dir(path) and disk.remove_dir(path)


def test_a_failed_write_leaves_nothing_behind(disk: Disk, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "x").write_text("")
    with pytest.raises(OSError):
        disk.publish(str(target), b"data")
    assert names(tmp_path) == ["there"]


def test_touch_tells_the_servers_time(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    os.utime(tmp_path / "x", (0, 0))
    assert disk.touch(str(tmp_path / "x")) == os.stat(tmp_path / "x").st_mtime_ns / 1e9 > 1e9


def test_files_of_a_spool_on_nfs_4_are_read_without_delegations_and_others_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_without_delegations", ())
    flags: dict[str, int] = {}
    real = os.open

    def recorded(path: str, wanted: int, *rest: int) -> int:
        flags[os.path.basename(path)] = wanted & os.O_DIRECT
        return real(path, wanted & ~os.O_DIRECT, *rest)

    (tmp_path / "spool").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "spool")
    for name in ("spool/a", "spool/b", "spool/c", "beside"):
        (tmp_path / name).write_text("text")
    storage.read_without_delegations(str(tmp_path / "link"))
    monkeypatch.setattr("spool_layout.storage.os.open", recorded)
    disk = Disk()
    assert disk.read(f"{tmp_path}/link/a") == b"text"
    assert disk.inspect(f"{tmp_path}/spool/b", 10).data == b"text"
    assert disk.read(str(tmp_path / "beside")) == b"text"
    assert disk.read(f"{tmp_path}/spooled") is None
    assert flags.pop("spooled") == 0
    assert {name for name, direct in flags.items() if direct} == {"a", "b"}


def test_a_held_file_stays_open_until_the_next_one_is_published(disk: Disk, tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        found = [os.readlink(link) for link in links if os.path.lexists(link)]
        return [path.removeprefix(f"{tmp_path}/") for path in found if path.startswith(str(tmp_path))]

    held = Held()
    for text in (b"one", b"two"):
        disk.publish(str(tmp_path / "x"), text, held=held)
        assert disk.read(str(tmp_path / "x")) == text
        assert opened() == ["x"]
    disk.publish(str(tmp_path / "x"), b"three")
    assert names(tmp_path) == ["x"]
    held.take(-1)


def replaced(path: Path) -> None:
    """Another file under the same name, that says the same: an inode of its own while the first one is there."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def test_what_is_added_on_a_local_disk_goes_to_the_file_that_stands_there_or_nowhere(tmp_path: Path) -> None:
    disk, path, moved = LocalDisk(), tmp_path / "x", tmp_path / "archive"
    path.write_bytes(b"")
    disk.append(str(path), b"one\n", 0)
    replaced(path)
    disk.append(str(path), b"two\n", 4)
    assert path.read_bytes() == b"one\ntwo\n"
    path.rename(moved)  # as the next head does
    with pytest.raises(FileNotFoundError):
        disk.append(str(path), b"three\n", 8)
    path.symlink_to(moved)
    with pytest.raises(OSError, match="symbolic links"):
        disk.append(str(path), b"three\n", 8)
    assert moved.read_bytes() == b"one\ntwo\n"


def test_lines_on_a_local_disk_go_to_a_new_file_where_somebody_took_the_old_one_away(tmp_path: Path) -> None:
    disk, path = LocalDisk(), tmp_path / "x"
    disk.add_lines(str(path), b"one\n")
    disk.add_lines(str(path), b"two\n")
    path.rename(tmp_path / "mine")
    disk.add_lines(str(path), b"three\n")
    assert (path.read_bytes(), (tmp_path / "mine").read_bytes()) == (b"three\n", b"one\ntwo\n")


def test_a_local_disk_keeps_few_files_open_and_none_when_it_is_gone(tmp_path: Path) -> None:
    def held() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{number}").startswith(str(tmp_path)) for number in opened())

    def opened() -> list[str]:
        return os.listdir("/proc/self/fd")

    disk = LocalDisk()
    for number in range(3 * localdisk.KEPT):
        disk.add_lines(str(tmp_path / str(number)), b"line\n")
    assert held() == localdisk.KEPT
    del disk
    assert held() == 0


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that are really listed."""
    made: list[str] = []
    real = os.scandir
    monkeypatch.setattr("spool_layout.storage.os.scandir", lambda path: (made.append(path), real(path))[1])
    return made


def settle(folder: Path) -> None:
    """Wait until a change has another stamp. The kernel sets a change time by its own clock, which no test can move."""
    while not stamps.Stamp.of(folder.stat()).is_settled(time.time_ns()):
        time.sleep(0.005)


def test_a_local_disk_lists_a_directory_again_only_where_something_came_or_went(
    tmp_path: Path, listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, at = LocalDisk(), str(tmp_path)
    (tmp_path / "a").touch()
    settle(tmp_path)
    assert [[entry.name for entry in disk.list(at)] for _ in range(3)] == [["a"]] * 3 and len(listings) == 1
    disk.list(at).clear()  # the list is the caller's own
    (tmp_path / "a").rename(tmp_path / "b")
    assert [[entry.name for entry in disk.list(at)] for _ in range(3)] == [["b"]] * 3
    assert len(listings) == 4  # not yet settled: the next change may have the same stamp
    monkeypatch.setattr(localdisk, "ANEW", 0.0)
    settle(tmp_path)
    disk.list(at), disk.list(at)
    assert len(listings) == 6


def test_a_local_disk_lists_what_a_link_leads_to_each_time(tmp_path: Path, listings: list[str]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    settle(tmp_path)
    disk = LocalDisk()
    assert disk.list(str(tmp_path / "link")) == []
    (tmp_path / "real" / "a").touch()
    assert [entry.name for entry in disk.list(str(tmp_path / "link"))] == ["a"]


def test_a_text_is_read_whole_whatever_its_size_and_only_of_a_regular_file(disk: Disk, tmp_path: Path) -> None:
    for size in (0, 10, localdisk.TEXT - 1, localdisk.TEXT, 2 * localdisk.TEXT):
        text = os.urandom(size)
        (tmp_path / "x").write_bytes(text)
        assert disk.text(str(tmp_path / "x"), 1 << 20, text.__eq__) == text
        assert disk.text(str(tmp_path / "x"), 1 << 20, lambda data: False) == text
    os.mkfifo(tmp_path / "fifo")
    os.symlink("x", tmp_path / "link")
    os.mkdir(tmp_path / "folder")
    for name in ("fifo", "link", "folder"):
        with pytest.raises(NotRegular):
            disk.text(str(tmp_path / name), 100, lambda data: False)
    with pytest.raises(FileNotFoundError):
        disk.text(str(tmp_path / "none"), 100, lambda data: False)


def test_a_local_disk_tells_whether_what_is_made_in_a_directory_has_the_mode_that_it_is_given(tmp_path: Path) -> None:
    def passing_on(entries: list[tuple[int, int]]) -> bytes:
        """The default access control list of a directory: (whose, what) each (acl(5), linux/posix_acl_xattr.h)."""
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry, 0xFFFFFFFF) for entry in entries)

    owner, group, others = 0x01, 0x04, 0x20
    made = {name: tmp_path / name for name in ("plain", "group", "list", "none", "link")}
    for name in ("plain", "group", "list"):
        made[name].mkdir()
    made["group"].chmod(0o2755)
    os.setxattr(made["list"], "system.posix_acl_default", passing_on([(owner, 6), (group, 4), (others, 4)]))
    made["link"].symlink_to("plain")
    assert {name for name, path in made.items() if LocalDisk().gives_modes(str(path))} == {"plain"}
    assert not Disk().gives_modes(str(made["plain"]))


def test_a_local_disk_asks_anew_for_the_mode_of_what_it_publishes_where_it_was_not_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = os.fstat
    monkeypatch.setattr("spool_layout.storage.os.fstat", lambda number: (asked.append(number), real(number))[1])
    disk, path = LocalDisk(), tmp_path / "x"

    def published(mode: int) -> tuple[str, int]:
        asked.clear()
        disk.publish(str(path), b"text", mode)
        return oct(stat.S_IMODE(path.stat().st_mode)), len(asked)

    old = os.umask(0o022)
    try:
        assert [published(0o644) for _ in range(2)] == [("0o644", 1), ("0o644", 0)]
        assert [published(0o664) for _ in range(2)] == [("0o664", 1), ("0o664", 1)]
        monkeypatch.setattr(localdisk, "ANEW", 0.0)
        assert published(0o644) == ("0o644", 1)
    finally:
        os.umask(old)
