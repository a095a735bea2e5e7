"""Reading what happened: event files, seals, ledger generations. No locks, no writes.

The newest epoch file whose first record is whole says what counts: its first record seals every earlier epoch
from its starting generation's on, that is, it names the offset up to which each counts; its last `vouched`
record (else its first record) names the ledger generation from which to begin. What lies beyond a seal was
written by a head that no longer led, and never happened.

What ends the newest file, and is not whole, is a write that was cut: a loss of power may leave any part of it, a hole
with whole records behind too, and it never happened. But a record that says that it begins a write of its own was
written when everything before it was durable. Where one stands behind a damaged record, something was lost that counts
and that others may have acted on: a head refuses, since to go on would silently take it back.

Two readers: `take_stock`, for a head that has just claimed an epoch, and `read_present`, for everybody else.
The second needs no permission to write and works with every daemon dead.
"""

from __future__ import annotations

from typing import NamedTuple

from spool_layout.errors import Damaged
from spool_layout.events import AnyEvent, Sealed, Vouched, decode_event, decode_events, outline, whole_behind
from spool_layout.paths import Spool, epoch_of
from spool_layout.records import Ledger, decode
from spool_layout.replay import State
from spool_layout.storage import Disk

EMPTY = Ledger(format=1, cluster="", spool="")
LISTED_ANEW = 10  # times that events/ is listed while heads pack away what was listed
ROUNDS = 20  # of a client that heads keep overtaking; each means a newer epoch or generation came meanwhile


class Stock(NamedTuple):
    """What a head begins from. seals: as its first record shall say them. ended: IDs of jobs that ended after the
    generation was written: what that means for the spool may not be projected yet. basis: what tells this reading from
    another one: the digest of the generation ("" where no event vouches for it), and all seals that were found. newest:
    the newest epoch with a whole first record, and the bytes of its file, what does not count too; (0, 0): none."""

    state: State
    seals: dict[int, int]
    generation: tuple[int, int]
    ended: list[int]
    basis: tuple[str, dict[int, int]] = ("", {})
    newest: tuple[int, int] = (0, 0)


class Present(NamedTuple):
    """What a client shows. written: time of the newest thing that is in it, by the writing head's clock."""

    state: State
    ledger: Ledger
    written: float
    epoch: int
    taking_over: bool  # a head is just taking over: this is the ledger alone
    offset: int = 0  # bytes of events/`epoch`.jsonl that are in it: a reader may go on from there


def epochs(spool: Spool, disk: Disk) -> list[int]:
    """The numbers of the epoch files that are listed, growing."""
    return sorted(e for e in (epoch_of(entry.name) for entry in disk.list(spool.events)) if e)


def leading(spool: Spool, disk: Disk) -> int:
    """The newest epoch of which the first record is whole: of any newer one the head has done nothing. 0: none."""
    newest = 0
    for _ in range(LISTED_ANEW):
        newest, all_there = _newest_sealed(spool, disk)
        if all_there:
            break
    return newest


def _newest_sealed(spool: Spool, disk: Disk) -> tuple[int, bool]:
    """The newest listed epoch that is sealed, and whether all newer ones that are listed are there: one that is not was
    packed away by a head of a still newer one, since it was listed."""
    all_there = True
    for epoch in reversed(epochs(spool, disk)):
        data = disk.read(spool.events_of(epoch))
        if data is None:
            all_there = False
        elif isinstance(decode_event(data[: data.find(b"\n") + 1]), Sealed):
            return epoch, all_there
    return 0, all_there


def digest(data: bytes) -> str:
    """SHA-256, hex: of task texts and of ledger generations."""
    import hashlib  # a reader of the present mostly needs none

    return hashlib.sha256(data).hexdigest()


def vouched(events: list[AnyEvent]) -> tuple[tuple[int, int], str]:
    """(generation, digest) to begin from, by the records of the newest whole epoch; digest "" if not told."""
    first = events[0]
    assert isinstance(first, Sealed)
    return last_vouched(events) or (first.generation, "")


def last_vouched(events: list[AnyEvent]) -> tuple[tuple[int, int], str] | None:
    """(generation, digest) of the last one that these events vouch for."""
    return next(((e.generation, e.digest) for e in reversed(events) if isinstance(e, Vouched)), None)


def load_generation(spool: Spool, disk: Disk, name: tuple[int, int], expected: str = "") -> Ledger | None:
    """A ledger generation, or None where it is missing. Damaged: not what the vouching event says."""
    if name == (0, 0):
        return EMPTY
    path = spool.generation(*name)
    data = disk.read(path)
    if data is None:
        return None
    if expected and digest(data) != expected:
        raise Damaged(f"{path} is not what the event that vouches for it says")
    return decode(data, Ledger, path)


class Hole(Damaged):
    """The newest event file lost something that was durable."""

    def __init__(self, root: str, path: str, end: int) -> None:
        import shlex

        super().__init__(
            f"{path} is damaged at byte {end}, before records that were durable: these would never have happened",
            f"keep a copy; then take the spool back from a backup, or to that moment: truncate -s {end} "
            f"{shlex.quote(path)}; then: spoold recover {shlex.quote(root)} --force",
        )


def has_hole(data: bytes, end: int) -> bool:
    """Whether something that was durable is lost between `end`, where the valid records of a file end, and its end."""
    return end < len(data) and any(not event.follows for event in whole_behind(data[end:]))


# ---- for a head -------------------------------------------------------------------------------------------


def take_stock(spool: Spool, disk: Disk, below: int, known: Stock | None = None) -> Stock:
    """The valid history before epoch `below`. Damaged where something that must be there is not.

    known: what was found by another such reading, its state as it was then. It is returned where no more counts by now:
    of event files what counts never changes, it only becomes more, and a generation is what its digest says.
    """
    seals: dict[int, int] = {}
    name: tuple[int, int] = (0, 0)
    expected, newest = "", (0, 0)
    for epoch in reversed([e for e in epochs(spool, disk) if e < below]):
        # It ends where it did, as its last byte tells: its attributes may be old ones (NFS).
        if known and epoch == known.newest[0] and len(_must_read(spool, disk, epoch, known.newest[1] - 1)) == 1:
            name, (expected, counted), newest = known.generation, known.basis, known.newest
            seals = {**counted, **seals}
            break
        data = _must_read(spool, disk, epoch)
        events, length = outline(data)
        if has_hole(data, length):
            raise Hole(spool.root, spool.events_of(epoch), length)
        seals[epoch] = length if events else 0
        if events:
            first = _first(events, spool, epoch)
            name, expected = vouched(events)
            seals = {**first.seals, **seals}
            newest = epoch, len(data)
            break
    basis = expected, seals
    if known and expected and (known.generation, known.basis) == (name, basis):
        return known
    ledger = load_generation(spool, disk, name, expected)
    if ledger is None:
        raise Damaged(f"{spool.generation(*name)} is missing, though an event vouches for it")
    seals = {e: end for e, end in sorted(seals.items()) if e >= ledger.epoch}
    state = State.from_ledger(ledger)
    before = set(state.ended)
    for epoch, end in seals.items():
        start = ledger.offset if epoch == ledger.epoch else 0
        if end > start:
            _replay(state, _must_read(spool, disk, epoch, start)[: end - start], spool.events_of(epoch))
    return Stock(state, seals, name, [ident for ident in state.ended if ident not in before], basis, newest)


def _must_read(spool: Spool, disk: Disk, epoch: int, start: int = 0) -> bytes:
    data = disk.read(spool.events_of(epoch), start)
    if data is None:
        raise Damaged(f"{spool.events_of(epoch)} is listed, but cannot be opened")
    return data


def _first(events: list[AnyEvent], spool: Spool, epoch: int) -> Sealed:
    first = events[0]
    if not isinstance(first, Sealed) or first.epoch != epoch:
        raise Damaged(f"{spool.events_of(epoch)} does not begin with its seal")
    return first


def _replay(state: State, data: bytes, where: str) -> None:
    events, length = decode_events(data)
    if length < len(data):
        raise Damaged(f"{where}: a record that counts is damaged, {len(data) - length} bytes from its end")
    for event in events:
        state.apply(event)


# ---- for everybody else -----------------------------------------------------------------------------------


def read_present(spool: Spool, disk: Disk) -> Present:
    """The state that the disk tells now, read without a lock. Damaged after too many rounds."""
    for _ in range(ROUNDS):
        present = _try_present(spool, disk)
        if present is not None:
            return present
    raise Damaged(f"{spool.root}: heads kept taking over while this was read; try again")


def _try_present(spool: Spool, disk: Disk) -> Present | None:
    ledger = _fixed_ledger(spool, disk)
    listed = epochs(spool, disk)
    if not listed:
        return Present(State.from_ledger(ledger), ledger, ledger.written, 0, False)
    top = listed[-1]
    own = ledger.epoch == top  # then the ledger tells what its file began with, and that may be long ago
    data = disk.read(spool.events_of(top), ledger.offset if own else 0)
    if data is None:
        return None
    first: Sealed | None = None
    if not own:
        end = data.find(b"\n") + 1
        record = decode_event(data[:end]) if end else None
        if not isinstance(record, Sealed):
            return None if record else Present(State.from_ledger(ledger), ledger, ledger.written, top, True)
        first, data = record, data[end:]
    tail = decode_events(data)[0]
    name, expected = vouched([first, *tail]) if first else last_vouched(tail) or ((0, 0), "")
    if (ledger.epoch, ledger.seq) < name:
        later = load_generation(spool, disk, name, expected)
        if later is None:
            return None
        ledger = later
    state = State.from_ledger(ledger)
    offset = _catch_up(spool, disk, state, ledger, first.seals if first else {}, top)
    if offset is None or epochs(spool, disk)[-1] > top:
        return None
    return Present(state, ledger, max(ledger.written, first.at if first else 0.0), top, False, offset)


def _fixed_ledger(spool: Spool, disk: Disk) -> Ledger:
    """ledger.json; the empty one where it is missing or damaged: the generation that events vouch for is read then."""
    data = disk.read(spool.ledger)
    try:
        return decode(data, Ledger, spool.ledger) if data else EMPTY
    except Damaged:
        return EMPTY


def _catch_up(spool: Spool, disk: Disk, state: State, ledger: Ledger, seals: dict[int, int], top: int) -> int | None:
    """Apply what happened after the ledger. The bytes of the newest file that count; None: a file is missing."""
    ends: dict[int, int | None] = {**seals, top: None}
    taken = 0
    for epoch, end in sorted(ends.items()):
        if epoch < ledger.epoch:
            continue
        start = ledger.offset if epoch == ledger.epoch else 0
        data = disk.read(spool.events_of(epoch), start)
        if data is None:
            return None
        events, length = decode_events(data if end is None else data[: max(0, end - start)])
        for event in events:
            state.apply(event)
        taken = start + length
    return taken
