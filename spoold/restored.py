"""Whether a spool went back in time: it was restored from a backup, or its file server forgot what it had promised.

Nobody can tell that from the spool alone. Others remember more than it says:

- a node: its runner has acted on an assigned.json of an epoch that the spool has not come to, or of the same epoch and
  a later number than the one that stands there, or knows a job whose ID was never given;
- this host: the last epoch that a head led from here, and how long its event file was (`led` in its local state). Where
  the file is as long still, but damaged before that, it did not go back: it lost something that was durable.

The newest epoch that counts is that of which the first record is whole (`history.leading`): one that was only claimed
must not hide what others know.

None of these is ever so in a spool that did not go back: an epoch is sealed before anything is assigned in it, one head
writes the numbers of an epoch, growing, and an ID is durable in the events before a node hears of it. A reader may see
an old listing for a moment (NFS); so the question is asked twice, a second apart.

Asked before an epoch is claimed, since each new epoch would come nearer to those that the nodes know and hide what
happened. Cut anywhere: nothing was changed.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from typing import TypeVar

from spool_layout import history
from spool_layout.errors import Damaged, Deposed
from spool_layout.history import Hole, Stock
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool, parse_attempt_key
from spool_layout.records import Assigned, NodeStatus, decode
from spool_layout.storage import Disk

log = logging.getLogger("spoold.head")

T = TypeVar("T")
PAUSE = 1.0  # seconds between two looks
LOOKS = 3  # at a history that is damaged, and in which nothing happens meanwhile
OVERTAKEN = 20  # looks at most, at one in which something does
LED, LED_BYTES = "led.json", 80


class WentBack(Damaged):
    """The spool is older than what others know of it."""

    def __init__(self, spool: Spool, more: str) -> None:
        super().__init__(
            f"{spool.root} went back in time (restored from a backup?): {more}",
            f"start every node once, so that it says what it ran; then: spoold recover {shlex.quote(spool.root)}",
        )


def node_knows_more(status: NodeStatus, assigned: Assigned | None, top: int, next_id: int | None) -> str:
    """What a node knows that the spool does not, as a sentence; "" for nothing. top: the newest epoch; next_id: the ID
    that the next job gets, None where that is not known. Pure."""
    if status.seen[0] > top:
        return f"node {status.node} has seen epoch {status.seen[0]}, and the newest here is {top}"
    if assigned is not None and assigned.version[0] == status.seen[0] and assigned.version < status.seen:
        told, seen = (".".join(map(str, version)) for version in (assigned.version, status.seen))
        return f"node {status.node} has seen assignment {seen}, and the one that stands here is {told}"
    known = max((parse_attempt_key(key)[0] for key in status.attempts), default=0)
    if next_id is not None and known >= next_id:
        return f"node {status.node} knows job {known}, and the next one here is {next_id}"
    return ""


def refuse(spool: Spool, disk: Disk, kept: str) -> Stock:
    """WentBack where somebody knows more than the spool. Deposed: other heads lead. kept: directory of this host's
    local state for the spool. Else what the spool says, so that it need not be read again."""
    more, stock = _surely_more(spool, disk, kept)
    if more:
        time.sleep(PAUSE)
        more, stock = _surely_more(spool, disk, kept)
        if more:
            raise WentBack(spool, more)
    return stock


def _surely_more(spool: Spool, disk: Disk, kept: str) -> tuple[str, Stock]:
    """As _more. No epoch is ours yet, so other heads may lead, and remove what was just listed, as fast as a slow disk
    lets us look. Damaged only where nothing changed during several looks; Deposed where something always did."""
    seen, same = _listed(spool, disk), 0
    for _ in range(OVERTAKEN):
        try:
            return _more(spool, disk, kept)
        except Damaged:
            before, seen = seen, _listed(spool, disk)
            same = same + 1 if seen == before else 0
            if same == LOOKS:
                raise
        time.sleep(PAUSE)
    raise Deposed("other heads kept taking over while the history was read")


def _listed(spool: Spool, disk: Disk) -> tuple[list[str], list[str]]:
    """Event files and ledger generations that are there."""
    events, generations = (sorted(e.name for e in disk.list(folder)) for folder in (spool.events, spool.generations))
    return events, generations


def _more(spool: Spool, disk: Disk, kept: str) -> tuple[str, Stock]:
    """What somebody knows more, as a sentence; "" for nothing. And what the spool says."""
    led = _led(kept)  # the witnesses first: another head may lead meanwhile, and what is read later has all they know
    nodes = sorted(entry.name for entry in disk.list(spool.nodes))
    told = [(read(disk, spool.status(node), NodeStatus), read(disk, spool.assigned(node), Assigned)) for node in nodes]
    stock = history.take_stock(spool, disk, (history.epochs(spool, disk) or [0])[-1] + 1)
    top = stock.newest[0]
    for status, assigned in told:
        if status is not None and (more := node_knows_more(status, assigned, top, stock.state.next_id)):
            return more, stock
    return _host_knows_more(spool, disk, led, top, stock.seals), stock


def read(disk: Disk, path: str, kind: type[T]) -> T | None:
    """One of a node's records; None where it is missing or cannot be read, which says nothing."""
    try:
        data = disk.read(path)
        return decode(data, kind, path) if data is not None else None
    except (OSError, Damaged):
        return None


# ---- what a runner knows


def runner_knows_more(spool: Spool, disk: Disk, seen: tuple[int, int], found: tuple[int, int] | None) -> str:
    """What a runner that has seen a version knows that the spool does not; "" for nothing. found: the version of the
    assigned.json that stands there. A lower one of an earlier epoch is a deposed head's, if the spool has come to
    the epoch that was seen."""
    if found is not None and found[0] == seen[0] and found < seen:
        return (
            f"this node has seen assignment {seen[0]}.{seen[1]}, and the one that stands here is {found[0]}.{found[1]}"
        )
    top = history.leading(spool, disk)
    if seen[0] > top:
        return f"this node has seen epoch {seen[0]}, and the newest here is {top or 'none'}"
    return ""


# ---- what this host knows


def note_led(kept: str, epoch: Epoch) -> None:
    """Remember on this host how far an epoch came that a head led from here.

    In place, and always as long: after each tick, a file put in its place would cost as much as a fsync (ext4 sends off
    what replaces a file). One that is cut or torn by a power loss is no JSON, or what it was before."""
    path = os.path.join(kept, LED)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, json.dumps({"epoch": epoch.number, "offset": epoch.offset}).ljust(LED_BYTES).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("this host cannot remember epoch %d: %s", epoch.number, error)


def _led(kept: str) -> tuple[int, int] | None:
    """The last epoch that a head led from here, and the bytes of it that were durable."""
    try:
        with open(os.path.join(kept, LED), encoding="utf-8") as file:
            led = json.load(file)
        return int(led["epoch"]), int(led["offset"])
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _host_knows_more(spool: Spool, disk: Disk, led: tuple[int, int] | None, top: int, seals: dict[int, int]) -> str:
    epoch, offset = led or (0, 0)
    if epoch > top:
        return f"a head on this host led epoch {epoch}, and the newest here is {top or 'none'}"
    if epoch in history.epochs(spool, disk):
        last = disk.read(spool.events_of(epoch), max(0, offset - 1))  # attributes, by name alone, may be old ones (NFS)
        if last == b"" and offset:
            here = len(disk.read(spool.events_of(epoch)) or b"")
            return f"a head on this host wrote {offset} bytes of epoch {epoch}, and {here} are here"
        if seals.get(epoch, offset) < offset:  # they are here, and not all of them can be read
            raise Hole(spool.root, spool.events_of(epoch), seals[epoch])
    return ""
