"""What happened: the events as frozen shapes, and the codec of the files that they are in.

An event file is made of lines `JSON CRC`: one record, one space, eight hex digits of the CRC-32 of the JSON's
bytes, a newline. A line that does not end so, or whose checksum is wrong, ends what is valid of the file. A record that
was written together with the one before it says so (`follows`): what is lost before one that does not was durable.

A whole line whose event is of a kind that this version does not know is not taken for a torn one: it is told as damage.
For the rest the rules are those of all records: records.py.
"""

# No `annotations` from __future__: msgspec would have to compile each of them, at every start of a client.

import io
import re
import zlib

import msgspec

from spool_layout.errors import Damaged
from spool_layout.records import Allocation, Gpu, Leader, Remnant, Task
from spool_layout.states import Status


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", kw_only=True):
    """Base of all events. at: wall clock of the head's host, for people; no decision rests on it."""

    follows: bool = False  # written together with the record before it: one write, one fsync


class Sealed(Event, frozen=True, omit_defaults=True, tag="sealed"):
    """First record of an epoch. seals: earlier epoch -> bytes of its file that count."""

    epoch: int
    seals: dict[int, int]
    generation: tuple[int, int]  # (epoch, seq) of the ledger to start from; (0, 0): the empty one
    leader: Leader
    at: float
    restored: "Restored | None" = None  # what comes first: the spool was recovered, and this is the epoch it goes on in


class Accepted(Event, frozen=True, omit_defaults=True, tag="accepted"):
    """A dropped file became a job."""

    id: int
    name: str
    file: str
    drop: str
    uid: int
    user: str
    inode: int
    digest: str
    task: Task
    submitted: float
    at: float
    claim: str = ""  # EPOCH.TOKEN/new-N-NAME: where the file stands until it is put in its place


class Edited(Event, frozen=True, omit_defaults=True, tag="edited"):
    """The owner changed the file of a waiting job."""

    id: int
    name: str
    inode: int
    digest: str
    task: Task
    at: float
    problem: str = ""  # not "": what stands there is no task; the job waits until it is one


class Started(Event, frozen=True, omit_defaults=True, tag="started"):
    """Slots were granted, all ranks at once."""

    id: int
    attempt: int
    allocations: list[Allocation]
    at: float


class Returned(Event, frozen=True, omit_defaults=True, tag="returned"):
    """A grant was taken back: the job waits again, under `file`.

    in_running: nothing ever ran, or all that ran is gone; the file stays in running/. Else the file was changed when it
    was to start: it stands in pending/ and is read anew (`edited`) before the job can start.
    """

    id: int
    attempt: int
    file: str
    reason: str
    at: float
    in_running: bool = False


class Going(Event, frozen=True, omit_defaults=True, tag="going"):
    """Run began, or may begin: setup is over on every node."""

    id: int
    attempt: int
    at: float
    start_at: float | None = None  # by the node of rank 0; None: it has not begun yet
    pids: list[int] = []


class Stopping(Event, frozen=True, omit_defaults=True, tag="stopping"):
    """The attempt's processes are to be ended; it becomes `status` when they are gone (PENDING: it runs again)."""

    id: int
    attempt: int
    status: Status
    reason: str
    at: float
    exit_codes: list[int] = []


class Lost(Event, frozen=True, omit_defaults=True, tag="lost"):
    """The attempt was given up. Its slots on `nodes` stay held until these have reported it gone."""

    id: int
    attempt: int
    nodes: tuple[str, ...]
    again: bool  # pending again, else over
    reason: str
    day: str
    at: float
    status: Status = Status.FAILED  # where it is over
    exit_codes: list[int] = []


class Gone(Event, frozen=True, omit_defaults=True, tag="gone"):
    """A node reported that nothing is left of an attempt that was given up."""

    id: int
    attempt: int
    node: str
    at: float


class Ended(Event, frozen=True, omit_defaults=True, tag="ended"):
    """The job is over; its slots are free."""

    id: int
    attempt: int
    status: Status
    day: str
    at: float
    reason: str = ""
    exit_codes: list[int] = []
    pids: list[int] = []
    start_at: float | None = None
    end_at: float | None = None


class Waiting(Event, frozen=True, omit_defaults=True, tag="waiting"):
    """No known node could ever serve this pending job (since `since`), or again one could (since: None)."""

    id: int
    since: float | None
    reason: str
    at: float


class Rejected(Event, frozen=True, omit_defaults=True, tag="rejected"):
    """A dropped file is no task. file: its name in rejected/, "" where it was left in place. claim: as in Accepted."""

    drop: str
    file: str
    uid: int
    user: str
    reason: str
    at: float
    claim: str = ""


class Requested(Event, frozen=True, omit_defaults=True, tag="requested"):
    """A request was carried out, or refused with a reason. key: EPOCH.TOKEN/request-N-NAME, where its file stood."""

    key: str
    what: str  # "cancel"
    user: str
    ids: list[int]
    at: float
    reason: str = ""


class NodeChanged(Event, frozen=True, omit_defaults=True, tag="node"):
    """A node was first seen, or what it is, or whether it is heard, changed."""

    name: str
    at: float
    host: str = ""
    address: str = ""
    gpus: list[Gpu] = []
    cpus_milli: int = 0
    memory_mb: int = 0
    incarnation: int = 0
    state: str = "up"  # "removed": its directory is gone, and it held nothing
    left: bool = False
    awaited: int = 0


class Vouched(Event, frozen=True, omit_defaults=True, tag="vouched"):
    """A ledger generation was written whole: readers may begin there."""

    generation: tuple[int, int]
    digest: str
    at: float


class Restored(Event, frozen=True, omit_defaults=True, tag="restored"):
    """The spool went back in time. IDs below `next_id` may have been given; what ran meanwhile is over as FAILED.

    left_out: nodes that did not say what they ran; they get no work until they have read an assignment of `epoch`.
    """

    next_id: int
    jobs: list[Remnant]
    day: str
    reason: str
    at: float
    left_out: tuple[str, ...] = ()
    epoch: int = 0


class Surfaced(Event, frozen=True, omit_defaults=True, tag="surfaced"):
    """A node tells of attempts that run there and that no event knows: it began them in a time that a restored spool
    has forgotten. All that is idle there is held for them until they are gone; the jobs `over` are FAILED by it."""

    node: str
    jobs: list[Remnant]
    over: list[int]
    day: str
    reason: str
    at: float


AnyEvent = (
    Sealed
    | Accepted
    | Edited
    | Started
    | Returned
    | Going
    | Stopping
    | Lost
    | Gone
    | Ended
    | Waiting
    | Rejected
    | Requested
    | NodeChanged
    | Vouched
    | Restored
    | Surfaced
)


# ---- codec --------------------------------------------------------------------------------------------------

KIND = len('{"event":"requested"')  # bytes of a record that tell its kind; none has a longer name

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] | None = None


def encode_event(event: AnyEvent) -> bytes:
    """One line of an event file."""
    body = _encoder.encode(event)
    return b"%s %08x\n" % (body, zlib.crc32(body))


def encode_together(events: list[AnyEvent]) -> bytes:
    """The lines of one append."""
    marked = [msgspec.structs.replace(event, follows=number > 0) for number, event in enumerate(events)]
    return b"".join(encode_event(event) for event in marked)


def decode_event(line: bytes) -> AnyEvent | None:
    """The event of one whole line (with its newline), or None where the line is torn or damaged."""
    global _decoder
    if len(line) < 11 or line[-1:] != b"\n" or line[-10:-9] != b" ":
        return None
    body = line[:-10]
    if line[-9:-1] != b"%08x" % zlib.crc32(body):
        return None
    if _decoder is None:
        _decoder = msgspec.json.Decoder(AnyEvent)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"an event of a kind that this version does not know: {error}") from error


def decode_events(data: bytes) -> tuple[list[AnyEvent], int]:
    """The valid events at the beginning of `data`, and the number of bytes they take."""
    events: list[AnyEvent] = []
    offset = 0
    while (end := data.find(b"\n", offset)) >= 0:
        event = decode_event(data[offset : end + 1])
        if event is None:
            break
        events.append(event)
        offset = end + 1
    return events, offset


def outline(data: bytes) -> tuple[list[AnyEvent], int]:
    """As decode_events, of a file that may be long: the first event, then the last one of each kind. Every checksum is
    looked at; to decode all of 64 MiB would take five times as long, 1.1 s, and 200 MiB of memory."""
    first, length = b"", 0
    last: dict[bytes, bytes] = {}
    for line in io.BytesIO(data):
        if len(line) < 11 or line[-10:] != b" %08x\n" % zlib.crc32(line[:-10]):
            break
        first = first or line
        last[line[:KIND]] = line
        length += len(line)
    events = [decode_event(line) for line in (first, *last.values())]
    return [event for event in events if event is not None], length


def whole_behind(data: bytes) -> list[AnyEvent]:
    """Whole records in what stands behind the valid ones of a file."""
    found = []
    for line in data.split(b"\n")[:-1]:
        starts = [match.start() for match in re.finditer(rb'\{"event"', line)]
        found += [event for start in starts if (event := decode_event(line[start:] + b"\n")) is not None]
    return found
