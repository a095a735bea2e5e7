"""What stands on the disk: one look at a spool, live or dead. Reads and lists; changes nothing, not even a time stamp.

The history is read as a head would read that begins now (history.take_stock), not as a client does: a head is strict.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, TypeVar

import msgspec

from spool_layout import history
from spool_layout.errors import Damaged
from spool_layout.events import decode_events
from spool_layout.history import Stock
from spool_layout.modes import wanted
from spool_layout.paths import Spool, epoch_of, generation_of, is_day, is_digits
from spool_layout.records import Assigned, Job, Ledger, NodeOwner, NodeStatus, decode
from spool_layout.settings import MOST_BYTES
from spool_layout.storage import Disk, NotRegular

TRIES = 5  # of a history that heads pack away while it is read
T = TypeVar("T")


class Tail(NamedTuple):
    """What lies behind the valid records of the newest event file that has any. hole: something durable is lost."""

    epoch: int = 0
    valid: int = 0
    bytes: int = 0
    hole: bool = False


class Label(NamedTuple):
    """What stands in running/. digest: "" of what is no regular file; None of what cannot be read."""

    uid: int
    digest: str | None


class Day(msgspec.Struct, frozen=True):
    """A directory in done/. files: names of task files; told: how jobs ended, by its lines; torn: lines that are no
    records, by file."""

    files: frozenset[str] = frozenset()
    told: dict[int, Job] = {}
    torn: tuple[str, ...] = ()


class Records(NamedTuple):
    """A node's three files: what each says, or what is wrong with it as text; None: it is missing."""

    owner: NodeOwner | str | None = None
    assigned: Assigned | str | None = None
    status: NodeStatus | str | None = None


class Facts(msgspec.Struct, frozen=True):
    """One look. Paths are relative to the spool's directory."""

    modes: dict[str, int | None]  # of each directory that a spool has; None: it is missing; -1: not a directory
    spool_id: str
    epochs: list[int] = []
    damage: str = ""  # why the history cannot be read; then there is no stock
    stock: Stock | None = None
    tail: Tail = Tail()
    ledger: Ledger | str | None = None
    ledger_digest: str = ""
    vouched: tuple[tuple[int, int], str] = ((0, 0), "")  # the generation that counts, and its digest if it is told
    generations: list[tuple[int, int]] = []
    claims: dict[str, list[str] | None] = {}  # name in claims/ -> what stands in it; None: it is no directory
    pending: frozenset[str] = frozenset()
    running: dict[str, Label] = {}
    rejected: frozenset[str] = frozenset()
    days: dict[str, Day] = {}
    nodes: dict[str, Records] = {}
    logs: int = 0  # the highest ID in logs/
    top: int = 0  # the newest epoch that has its first record
    users: str = "single"  # as spool.yaml says it
    strangers: dict[str, int] = {}  # directories of a spool of several users that are not its account's -> whose


def gather(spool: Spool, disk: Disk, spool_id: str, users: str = "single", max_file: int = MOST_BYTES) -> Facts:
    """One look. spool_id, users, max_file: as spool.yaml says them. OSError where the file system does not answer."""
    places = {place: os.path.normpath(os.path.join(spool.root, place)) for place in wanted(spool, users)}
    modes = {place: _mode(disk, path) for place, path in places.items()}
    strangers = _strangers(disk, spool, places) if users == "multi" else {}
    if any(modes[os.path.relpath(path, spool.root)] in (None, -1) for path in (spool.events, spool.generations)):
        damage = "a directory of the history is missing"
        return Facts(modes, spool_id, damage=damage, users=users, strangers=strangers)
    stock, damage = _history(spool, disk)
    epochs = history.epochs(spool, disk)
    ledger, digest = _ledger(spool, disk)
    found = (generation_of(name) for name in _names(disk, spool.generations))
    return Facts(
        modes,
        spool_id,
        epochs,
        damage,
        stock,
        _tail(spool, disk, epochs),
        ledger,
        digest,
        _vouched(spool, disk, epochs),
        sorted(generation for generation in found if generation),
        {name: _inside(disk, os.path.join(spool.claims, name)) for name in _names(disk, spool.claims)},
        frozenset(_names(disk, spool.pending)),
        _labels(disk, spool, max_file),
        frozenset(_names(disk, spool.rejected)),
        {day: _day(spool, disk, day) for day in _names(disk, spool.done) if is_day(day)},
        {node: _records(spool, disk, node) for node in _names(disk, spool.nodes)},
        max((int(n) for n in _names(disk, spool.logs) if is_digits(n) and len(n) < 19), default=0),
        history.leading(spool, disk) if stock is not None else (epochs or [0])[-1],
        users,
        strangers,
    )


def _strangers(disk: Disk, spool: Spool, places: dict[str, str]) -> dict[str, int]:
    """Directories that are not whose the spool is."""
    account = os.stat(spool.root).st_uid
    owners = {place: info.st_uid for place, path in places.items() if (info := disk.stat(path)) is not None}
    return {place: owner for place, owner in owners.items() if owner != account}


def _mode(disk: Disk, path: str) -> int | None:
    info = disk.stat(path)
    if info is None:
        return None
    return stat.S_IMODE(info.st_mode) if stat.S_ISDIR(info.st_mode) else -1


def _names(disk: Disk, folder: str) -> list[str]:
    return _inside(disk, folder) or []


def _inside(disk: Disk, path: str) -> list[str] | None:
    try:
        return sorted(entry.name for entry in disk.list(path))
    except NotADirectoryError:
        return None
    except FileNotFoundError:
        return []


# ---- the history


def _history(spool: Spool, disk: Disk) -> tuple[Stock | None, str]:
    """The history as a head would take it, or why it cannot."""
    damage = ""
    for _ in range(TRIES):
        try:
            listed = history.epochs(spool, disk)
            return history.take_stock(spool, disk, (listed or [0])[-1] + 1), ""
        except Damaged as error:
            damage = error.message
    return None, damage


def _tail(spool: Spool, disk: Disk, epochs: list[int]) -> Tail:
    tail = Tail()
    for epoch in reversed(epochs):
        data = disk.read(spool.events_of(epoch)) or b""
        try:
            events, valid = decode_events(data)
            tail = Tail(epoch, valid, len(data) - valid, history.has_hole(data, valid))
        except Damaged:
            return Tail()  # told as damage of the history
        if events or tail.hole:
            break
    return tail


def _vouched(spool: Spool, disk: Disk, epochs: list[int]) -> tuple[tuple[int, int], str]:
    for epoch in reversed(epochs):
        try:
            events, _ = decode_events(disk.read(spool.events_of(epoch)) or b"")
            if events:
                return history.vouched(events)
        except (Damaged, AssertionError):
            break
    return (0, 0), ""


def _ledger(spool: Spool, disk: Disk) -> tuple[Ledger | str | None, str]:
    data = disk.read(spool.ledger)
    return _decoded(data, Ledger, "ledger.json"), history.digest(data or b"")


def _decoded(data: bytes | None, kind: type[T], where: str) -> T | str | None:
    try:
        return decode(data, kind, where) if data is not None else None
    except Damaged as error:
        return error.message


# ---- what the history made


def _labels(disk: Disk, spool: Spool, limit: int) -> dict[str, Label]:
    """The files in running/, read as a node reads them before it starts a job; not those that are gone meanwhile."""
    found = {name: _label(disk, spool.started(name), limit) for name in _names(disk, spool.running)}
    return {name: label for name, label in found.items() if label is not None}


def _label(disk: Disk, path: str, limit: int) -> Label | None:
    try:
        seen = disk.inspect(path, limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        info = disk.stat(path)
        return info and Label(info.st_uid, "" if isinstance(error, NotRegular) else None)
    return Label(seen.uid, history.digest(seen.data))


def _day(spool: Spool, disk: Disk, day: str) -> Day:
    files, told, torn = set(), {}, []
    for name in _names(disk, spool.day(day)):
        if epoch_of(name) is None:
            files.add(name)
            continue
        for line in (disk.read(os.path.join(spool.day(day), name)) or b"").splitlines():
            job = _decoded(line, Job, name)
            if isinstance(job, Job):
                told[job.id] = job
            else:
                torn.append(name)
    return Day(frozenset(files), told, tuple(torn))


def _records(spool: Spool, disk: Disk, node: str) -> Records:
    status = _record(disk, spool.status(node), NodeStatus)  # first: what it has seen stood in the other before
    return Records(_record(disk, spool.owner(node), NodeOwner), _record(disk, spool.assigned(node), Assigned), status)


def _record(disk: Disk, path: str, kind: type[T]) -> T | str | None:
    try:
        return _decoded(disk.read(path), kind, os.path.basename(path))
    except NotADirectoryError:
        return None
    except PermissionError as error:
        return f"{os.path.basename(path)}: {error.strerror}"
