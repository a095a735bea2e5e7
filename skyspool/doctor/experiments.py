"""What two hosts measure together, each side in the same order; `all_of_them` is the order.

In what only one side can do at a time, first side a does it and side b looks, then the other way round: caches and
mount options belong to a host, and may differ. What each side saw is told to the other one, so that both judge the
same numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from skyspool.doctor.locking import head_lock, kernel_lock
from skyspool.doctor.meeting import Guest, Meeting, here
from skyspool.doctor.probes import KERNEL_LOCKS, Offset, make, seconds_until
from skyspool.doctor.replacing import Reader, Reads, replace, replace_all

PINGS = 8
BATCHES, BATCH = 6, 5  # of names that both want, for each kind of call
VERSIONS = 150  # of a file that is replaced while the other side reads it
ROUNDS, BURST = 20, 6  # of files moved in at once, while the other side lists
PATIENT = 0.2  # seconds that a listing may stay old before it counts as stuck
NAMES = 3


class Tally(NamedTuple):
    """Of names that both sides wanted: how many, how many both got, how many nobody got; links counted wrongly."""

    names: int
    both: int = 0
    nobody: int = 0
    miscounted: int = 0


class Listed(NamedTuple):
    """A directory listed while files come. seconds: the longest until all were seen; stuck: rounds that stayed old."""

    rounds: int
    stuck: int
    seconds: float


class Missing(NamedTuple):
    """Names that were looked for before the other side made them.

    seconds: after which a plain look saw all of them; None: not within LATEST. refreshed: seen at once after a listing.
    """

    seconds: float | None
    refreshed: bool


class Together(NamedTuple):
    """Everything that two hosts measured. Lists have one entry for each direction."""

    other: Guest
    one_kernel: bool  # both run on one host: nothing is proven for others
    offset: Offset  # of the other host's clock
    races: dict[str, Tally]
    reads: list[Reads]
    listed: list[Listed]
    missing: list[Missing]
    locks: dict[str, str]
    head_lock: str


def all_of_them(meeting: Meeting, other: Guest) -> Together:
    """Both sides call this. Takes some ten seconds."""
    trips = [exchange(meeting, side) for side in "ab"]
    mine = trips["ab".index(meeting.side)]
    found = Together(
        other=other,
        one_kernel=other.boot == here().boot,
        offset=offset_of(mine),
        races=races(meeting),
        reads=reads(meeting),
        listed=listings(meeting),
        missing=names(meeting),
        locks={name: kernel_lock(meeting, name) for name in KERNEL_LOCKS},
        head_lock=head_lock(meeting),
    )
    if meeting.side == "b":
        meeting.say("bye")
    else:
        meeting.hear("bye")
    return found


# ---- clocks


def exchange(meeting: Meeting, asker: str) -> list[tuple[float, float, float]]:
    """For each ping of the asker: its time before, the other's time at the answer, its time after. Empty for others."""
    trips = []
    for number in range(PINGS):
        if meeting.side == asker:
            begin = time.time()
            meeting.say(f"ping-{number}")
            there = meeting.hear(f"pong-{number}")
            trips.append((begin, float(there), time.time()))
        else:
            meeting.hear(f"ping-{number}")
            meeting.say(f"pong-{number}", time.time())
    return trips


def offset_of(trips: list[tuple[float, float, float]]) -> Offset:
    """How far the other clock is ahead. Its time was told between the two of ours: that bounds the error."""
    begin, there, end = min(trips, key=lambda trip: trip[2] - trip[0])
    return Offset(there - (begin + end) / 2, (end - begin) / 2)


# ---- one winner


def races(meeting: Meeting) -> dict[str, Tally]:
    """Names that both sides want at the same moment, by each call that may have one winner only."""
    kinds: dict[str, Callable[[str, str], object]] = {
        "create": lambda source, target: make(target),
        "mkdir": lambda source, target: os.mkdir(target),
        "link": os.link,
        "rename": lambda source, target: os.rename(f"{target}.common", f"{target}.{meeting.side}"),
    }
    return {kind: _race(meeting, kind, call) for kind, call in kinds.items()}


def _race(meeting: Meeting, kind: str, call: Callable[[str, str], object]) -> Tally:
    targets = [os.path.join(meeting.work, f"{kind}-{number}") for number in range(BATCHES * BATCH)]
    for target in targets:
        if kind == "link":
            make(f"{target}.{meeting.side}")
        elif kind == "rename" and meeting.side == "a":
            make(f"{target}.common")
    won: list[int] = []
    for number, target in enumerate(targets):
        if number % BATCH == 0:
            meeting.together(f"{kind}-{number}")
        if _wins(call, f"{target}.{meeting.side}", target):
            won.append(number)
    theirs = meeting.swap(f"won-{kind}", won)
    wrong = [n for n, target in enumerate(targets) if kind == "link" and _links(target, meeting) != 1 + (n in won)]
    both, nobody = set(won) & set(theirs), set(range(len(targets))) - set(won) - set(theirs)
    return Tally(len(targets), len(both), len(nobody), len(wrong) + meeting.swap(f"wrong-{kind}", len(wrong)))


def _wins(call: Callable[[str, str], object], source: str, target: str) -> bool:
    try:
        call(source, target)
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def _links(target: str, meeting: Meeting) -> int:
    return os.stat(f"{target}.{meeting.side}").st_nlink


# ---- what one does and the other sees


def reads(meeting: Meeting) -> list[Reads]:
    """What each side saw of the other's file."""
    [mine] = [seen for side in "ab" if (seen := reading(meeting, side)) is not None]
    return [mine, Reads(*meeting.swap("reads", mine))]


def reading(meeting: Meeting, writer: str) -> Reads | None:
    """What the other side sees of a file that the writer replaces over and over; None for the writer."""
    path = os.path.join(meeting.work, f"replaced-by-{writer}")
    if meeting.side == writer:
        replace(path, 0)
        meeting.together(f"replacing-{writer}")
        replace_all(path, VERSIONS)
        meeting.say(f"replaced-{writer}")
        return None
    meeting.together(f"replacing-{writer}")
    reader = Reader(path)
    while not meeting.has_said(f"replaced-{writer}"):
        for _ in range(5):
            reader.look()
    return reader.seen


def listings(meeting: Meeting) -> list[Listed]:
    """What each side saw in listings of the other's directory."""
    [mine] = [seen for side in "ab" if (seen := listing(meeting, side)) is not None]
    return [mine, Listed(*meeting.swap("listed", mine))]


def listing(meeting: Meeting, mover: str) -> Listed | None:
    """What listings show the other side while the mover moves files in, several in a burst; None for the mover.

    Bursts tell what single files do not: on NFS 3 a listing between two changes within one tick of the server's clock
    makes the second one invisible.
    """
    folder = os.path.join(meeting.work, f"moved-by-{mover}")
    if meeting.side == mover:
        os.mkdir(folder)
        for number in range(ROUNDS):
            _burst(meeting, folder, f"{mover}-{number}")
        return None
    found = Listed(ROUNDS, 0, 0.0)
    for number in range(ROUNDS):
        seconds = _list_through(meeting, folder, f"{mover}-{number}", (number + 1) * BURST)
        if seconds is None:
            found = found._replace(stuck=found.stuck + 1)
        else:
            found = found._replace(seconds=max(found.seconds, seconds))
    return found


def _burst(meeting: Meeting, folder: str, topic: str) -> None:
    names = [f"{topic}-{number}" for number in range(BURST)]
    for name in names:
        make(os.path.join(meeting.work, name))
    meeting.together(f"burst-{topic}")
    for name in names:
        os.rename(os.path.join(meeting.work, name), os.path.join(folder, name))
    meeting.say(f"moved-{topic}")
    meeting.hear(f"listed-{topic}")


def _list_through(meeting: Meeting, folder: str, topic: str, count: int) -> float | None:
    """Seconds after the burst until a listing showed all; None: it stuck, and was made true by a new time."""
    meeting.together(f"burst-{topic}")
    while len(os.listdir(folder)) < count and not meeting.has_said(f"moved-{topic}"):
        pass
    seconds = seconds_until(lambda: len(os.listdir(folder)) == count, PATIENT)
    if seconds is None:
        os.utime(folder)
    meeting.say(f"listed-{topic}")
    return seconds


def names(meeting: Meeting) -> list[Missing]:
    """How late each side saw the other's names."""
    [mine] = [seen for side in "ab" if (seen := missing(meeting, side)) is not None]
    return [mine, Missing(*meeting.swap("names", mine))]


def missing(meeting: Meeting, maker: str) -> Missing | None:
    """How late the other side sees names that it asked for before the maker made them; None for the maker."""
    folder = os.path.join(meeting.work, f"names-of-{maker}")
    paths = [os.path.join(folder, str(number)) for number in range(NAMES)]
    if meeting.side == maker:
        os.mkdir(folder)
        meeting.together(f"folder-{maker}")
        meeting.together(f"looked-{maker}")
        for path in paths:
            make(path)
        meeting.say(f"made-{maker}")
        return None
    meeting.together(f"folder-{maker}")
    if any(_is_seen(path) for path in paths):  # asked once, so that "missing" is remembered
        raise AssertionError("a name is there that nobody made")
    meeting.together(f"looked-{maker}")
    meeting.hear(f"made-{maker}")
    seconds = seconds_until(lambda: all(_is_seen(path) for path in paths))
    return Missing(seconds, len(os.listdir(folder)) == NAMES and all(_is_seen(path) for path in paths))


def _is_seen(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
