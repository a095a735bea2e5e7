"""Each operation of the disk, with each fault at each of its calls: it tells the truth, and leaves nothing half done.

What returns has done what it says. What raises has left things as they were, or has done it all; of an append, a part.
Where a call was done and only its reply was lost, where a file was stale, where a write was short, it does not raise.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from skyspool import logfiles
from spool_layout import stamps
from spool_layout.localdisk import LocalDisk
from spool_layout.stamps import Glance, SharedDisk
from spool_layout.storage import PRIVATE_PREFIX, Disk, Held
from tests.faults.port import FAULTS, SHORT, Fault, Port, through, trouble

HELD = Held()
READ_AGAIN = (
    "read",
    "read from",
    "inspect",
    "text",
    "a piece of a log",
    "the size of a log",
)  # where it was replaced meanwhile
State = dict[str, tuple[int, bytes]]


class Operation(NamedTuple):
    """act: on a directory that holds `file` ("old"), `full/inside`, and `empty/`. grows: may be done in part."""

    name: str
    act: Callable[[Disk, Path], object]
    grows: bool = False

    def __str__(self) -> str:
        return self.name


def operations() -> Iterator[Operation]:
    yield Operation("publish anew", lambda d, at: d.publish(f"{at}/new", b"content", 0o666))
    yield Operation("publish over", lambda d, at: d.publish(f"{at}/file", b"content", 0o640))
    yield Operation("publish lightly", lambda d, at: d.publish(f"{at}/file", b"content", durable=False))
    yield Operation("publish and hold", lambda d, at: d.publish(f"{at}/file", b"content", held=HELD))
    yield Operation("publish_new", lambda d, at: d.publish_new(f"{at}/new", b"content"))
    yield Operation("publish_new where one is", lambda d, at: d.publish_new(f"{at}/file", b"content"))
    yield Operation("append", lambda d, at: d.append(f"{at}/file", b"more of it", 3), grows=True)
    yield Operation("add_lines", lambda d, at: d.add_lines(f"{at}/file", b"more\n", 0o600), grows=True)
    yield Operation("add_lines anew", lambda d, at: d.add_lines(f"{at}/new", b"more\n", 0o666), grows=True)
    yield Operation("append twice", lambda d, at: [d.append(f"{at}/file", b"more", n) for n in (3, 7)], grows=True)
    yield Operation("add_lines twice", lambda d, at: [d.add_lines(f"{at}/new", b"line\n") for _ in "12"], grows=True)
    yield Operation("touch", lambda d, at: bool(d.touch(f"{at}/file")))
    yield Operation("make_dir where one is", lambda d, at: d.make_dir(f"{at}/full"))
    yield Operation("sync", lambda d, at: d.sync(str(at)))
    yield Operation("sync_all", lambda d, at: d.sync_all(f"{at}/file"))
    yield Operation("move", lambda d, at: d.move(f"{at}/file", f"{at}/new", (at / "file").stat().st_ino))
    yield Operation("move nothing", lambda d, at: d.move(f"{at}/none", f"{at}/new", 1))
    yield Operation("remove", lambda d, at: d.remove(f"{at}/file"))
    yield Operation("remove nothing", lambda d, at: d.remove(f"{at}/none"))
    yield Operation("remove_dir", lambda d, at: d.remove_dir(f"{at}/empty"))
    yield Operation("remove_dir with something in it", lambda d, at: d.remove_dir(f"{at}/full"))
    yield Operation("remove_dir of none", lambda d, at: d.remove_dir(f"{at}/none"))
    yield Operation("list", lambda d, at: sorted(entry.name for entry in d.list(str(at))))
    yield Operation("read", lambda d, at: d.read(f"{at}/file"))
    yield Operation("read from", lambda d, at: d.read(f"{at}/file", 1))
    yield Operation("read nothing", lambda d, at: d.read(f"{at}/none/none"))
    yield Operation("inspect", lambda d, at: d.inspect(f"{at}/file", 100).data)
    yield Operation("text", lambda d, at: d.text(f"{at}/file", 100, lambda data: data == b"old"))
    yield Operation("stat", lambda d, at: (found := d.stat(f"{at}/file")) and found.st_size)
    yield Operation("stat nothing", lambda d, at: d.stat(f"{at}/none"))
    yield Operation("room", lambda d, at: d.room(str(at)).total)
    yield Operation("a piece of a log", lambda d, at: logfiles.read(f"{at}/file", 1, 10))
    yield Operation("the size of a log", lambda d, at: logfiles.size(f"{at}/file"))
    yield Operation("stamp", lambda d, at: stamps.stamp_of(str(at)) > 0)
    yield Operation("no log", lambda d, at: logfiles.size(f"{at}/none/none"))


OPERATIONS = {str(operation): operation for operation in operations()}
LOCAL = ("append", "append twice", "add_lines", "add_lines anew", "add_lines twice", "list", "text")  # of a LocalDisk


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def fresh(at: Path) -> Path:
    """A new directory, as Operation says."""
    at.mkdir()
    (at / "file").write_bytes(b"old")
    for name in ("full", "empty"):
        (at / name).mkdir()
    (at / "full" / "inside").touch()
    return at


def state(at: Path) -> State:
    """All that stands in a directory: mode and content."""
    found = {}
    for path in sorted(at.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(at))] = stat.S_IMODE(path.stat().st_mode), data
    return found


def is_part(found: State, before: State, after: State) -> bool:
    """Whether each file is between what it was and what it should become."""
    nothing = (0, b"")
    return all(
        data.startswith(before.get(name, nothing)[1]) and after[name][1].startswith(data)
        for name, (_, data) in found.items()
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("name", "kind"), [(n, Disk) for n in OPERATIONS] + [(n, LocalDisk) for n in LOCAL])
def test_an_operation_tells_the_truth_whatever_goes_wrong(
    folder: Path, port: Port, name: str, kind: type[Disk], fault: Fault
) -> None:
    operation, disk = OPERATIONS[name], through(port, kind)
    before, number = state(fresh(folder / "untroubled")), 0
    said = operation.act(disk, folder / "untroubled")
    after = state(folder / "untroubled")

    def act() -> None:
        nonlocal number
        number += 1
        at = fresh(folder / str(number))
        try:
            with port if name.endswith("log") else Untouched():
                answer = operation.act(disk, at)
        except OSError:
            assert port.struck
            assert fault is not SHORT and not (fault.done and not fault.number), "it happened, and is told as a failure"
            assert fault.number != errno.ESTALE or name not in READ_AGAIN
            found = whole(at, port)
            assert found in (before, after) or (operation.grows and is_part(found, before, after))
        else:
            assert (answer, whole(at, port)) == (said, after)

    trouble(port, fault, False, act)


class Untouched:
    """No port of its own: the disk goes through one."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def whole(at: Path, port: Port) -> State:
    """All that stands there, but for a private file that could not be removed."""
    kept = any(call.name == "unlink" for call in port.struck)
    return {name: what for name, what in state(at).items() if not (kept and name.startswith(PRIVATE_PREFIX))}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_new_directory_has_its_mode_at_last_whatever_goes_wrong(folder: Path, port: Port, fault: Fault) -> None:
    disk, number = through(port), 0

    def act() -> None:
        nonlocal number
        number += 1
        path = folder / str(number)
        try:
            disk.make_dir(str(path), 0o755)
        except OSError:
            assert not (fault.done and not fault.number)
            port.lift()
            disk.make_dir(str(path), 0o755)
        assert stat.S_IMODE(path.stat().st_mode) == 0o755

    assert trouble(port, fault, False, act) > 0 or not fault.calls & {"mkdir", "chmod"}


def test_a_directory_that_somebody_uses_keeps_its_mode(folder: Path) -> None:
    at = fresh(folder / "there")
    for name in ("full", "empty"):
        (at / name).chmod(0o711)
        os.utime(at / name, (1, 1))  # it was not made just now
    assert not Disk().make_dir(str(at / "full")) and not Disk().make_dir(str(at / "empty"))
    assert {stat.S_IMODE((at / name).stat().st_mode) for name in ("full", "empty")} == {0o711}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "scandir" in fault.calls], ids=lambda fault: fault.name)
def test_a_listing_that_failed_is_made_anew(folder: Path, port: Port, fault: Fault, lasting: bool) -> None:
    """A shared disk keeps what it listed for as long as the directory does not change."""
    number = 0

    def act() -> None:
        nonlocal number
        number += 1
        disk, at = through(port, SharedDisk), fresh(folder / str(number))
        wanted = state(at).keys() - {"full/inside"}
        for turn in range(6):
            try:
                assert {entry.name for entry in disk.list(str(at))} == wanted
            except OSError:
                assert port.struck
            if turn % 2:
                (at / f"new-{turn}").touch()
                wanted |= {f"new-{turn}"}
        port.lift()
        for _ in range(2):
            assert {entry.name for entry in disk.list(str(at))} == wanted

    assert trouble(port, fault, lasting, act) > 3


def test_a_glance_that_failed_takes_nothing_for_seen(folder: Path, port: Port) -> None:
    number = 0

    def act() -> None:
        nonlocal number
        number += 1
        at = fresh(folder / str(number))
        glance = Glance(str(at))
        with port:
            try:
                assert glance.changed()
            except OSError:
                assert port.struck
                assert glance.changed()

    assert trouble(port, FAULTS[0], False, act) > 2


def test_a_held_file_is_held_once_whatever_closing_the_one_before_says(folder: Path, port: Port) -> None:
    at, disk, held = fresh(folder / "there"), through(port), Held()
    disk.publish(f"{at}/file", b"first", held=held)
    for number in (1, 2):
        port.plan(Fault("EIO", errno.EIO, frozenset({"close"})), 1)
        disk.publish(f"{at}/file", b"next", held=held)
        assert port.struck
        others = [os.open(f"{at}/full/inside", os.O_RDONLY) for _ in range(number)]
        opened = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if is_open(name)]
        assert opened.count(f"{at}/file") == 1
        assert opened.count(f"{at}/full/inside") == number
        for descriptor in others:
            os.close(descriptor)


def is_open(descriptor: str) -> bool:
    """Whether a descriptor of this process, by its name in /proc, is not the one by which it was listed."""
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_file_that_cannot_be_asked_counts_as_held(folder: Path, port: Port, fault: Fault) -> None:
    """Unknown is not free: it is looked at again later."""
    at, disk = fresh(folder / "there"), through(port)

    def act() -> None:
        held = disk.is_held_for_writing(str(at / "file"))
        assert held == bool(port.struck)

    trouble(port, fault, False, act)
    port.lift()
    assert not disk.is_held_for_writing(str(at / "none"))
