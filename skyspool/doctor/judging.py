"""From numbers to findings. Pure: what is measured is measured elsewhere, and how it is told too.

Unsafe is what breaks a promise of spool(5), so that a head should not lead there. What the spool was built to live with
(names that stay missing for a minute, clocks apart, kernel locks that exclude nobody) never is: it is fine, or slow
where a person would want to know.
"""

from __future__ import annotations

from statistics import median

from skyspool.doctor.experiments import Listed, Missing, Tally, Together
from skyspool.doctor.locking import BOTH, EXCLUDES, STUCK
from skyspool.doctor.probes import LATEST, Alone, Offset, Room
from skyspool.doctor.replacing import Reads
from skyspool.room import amount
from spool_layout.diagnosis import Finding, Verdict
from spool_layout.mounts import IN_MEMORY, Mount

# Seconds of a durable write.
NO_SERVER = 40e-6  # no answer of another machine is so fast, whatever its disks
NO_COMMIT = 150e-6  # a server that has written to a disk, or to memory with a battery, answers later than this
NO_DISK = 15e-6  # no disk of this host is so fast, persistent memory is
DEAR_COMMIT = 0.1  # each submission, each tick waits for one

CLOCKS_APART = 2.0  # seconds; less is seen by nobody
NEAR = 0.1  # seconds; nearer need not be told
FULL, NEARLY_FULL = 16 << 20, 1 << 30  # bytes; a small file system is nearly full with a tenth left
FEW_INODES, SOME_INODES = 1000, 20_000

ANOTHER = "use another file system"
WORKS = "excludes the other host, and changes hands"
NEEDS_NONE = "the spool needs no such lock, but jobs may (SQLite, HDF5)"
NFS = "use a directory on NFS, or on a disk of the one host"
MAKE_ROOM = "make room: skyspool prune"
NO_ROOM = ("ENOSPC", "EDQUOT")  # with which errors begin that the disk's or the user's limit gives


def alone(mount: Mount, found: Alone, users: str = "single") -> list[Finding]:
    """Of what one host measured. users: as spool.yaml says it."""
    return [
        _or_amiss("create", found.exclusive, "a name can be made once only"),
        _or_amiss("link", found.links, "hard links work, never replace, and are counted"),
        _whole([found.replaced] if isinstance(found.replaced, Reads) else found.replaced),
        _or_amiss("listing", found.listing, "shows at once what this host does"),
        kernel_locks_here(mount, found.locks),
        durability(mount, found.durable, found.commit),
        clock(mount, found.clock),
        ownership(mount, found.uid, found.owner, users),
        *room(found.room),
    ]


def _or_amiss(check: str, trouble: str, fine: str) -> Finding:
    return Finding(check, "unsafe", trouble, _change(trouble, NFS)) if trouble else Finding(check, "fine", fine)


def _change(trouble: str, otherwise: str) -> str:
    """What helps against an error; another file system does not where this one is full."""
    return MAKE_ROOM if trouble.startswith(NO_ROOM) else otherwise


def kernel_locks_here(mount: Mount, trouble: str) -> Finding:
    """Of flock and fcntl on one host."""
    if trouble:
        return Finding(
            "locks",
            "slow",
            f"{trouble}; {NEEDS_NONE}",
            "start rpc.statd, or mount with nolock" if mount.network else "",
        )
    return Finding("locks", "fine", "flock and fcntl can be had")


def durability(mount: Mount, durable: list[float] | str, commit: list[float] | str) -> Finding:
    """Of what fsync takes: too fast is as telling as too slow."""
    if isinstance(durable, str) or isinstance(commit, str):
        trouble = durable if isinstance(durable, str) else str(commit)
        text = f"what is written cannot be made durable: {trouble}"
        return Finding("fsync", "unsafe", text, _change(trouble, ANOTHER))
    took, whole = median(durable), median(commit)
    told = f"{duration(took)} for a small write, {duration(whole)} for a whole commit (medians)"
    if mount.kind in IN_MEMORY:
        return Finding("fsync", "fine", f"{told}; there is no disk to wait for")
    if mount.network and took < NO_SERVER:
        change = "use a client and a server that honour fsync"
        return Finding("fsync", "unsafe", f"{told}: no server was asked", change)
    if mount.network and took < NO_COMMIT:
        return Finding("fsync", "slow", f"{told}: hardly written to a disk", "export it with sync, not async")
    if not mount.network and took < NO_DISK:
        change = "use a disk that is not cached in memory only, unless this is persistent memory"
        return Finding("fsync", "slow", f"{told}: no disk was asked", change)
    if whole > DEAR_COMMIT:
        return Finding("fsync", "slow", f"{told}: each submission waits for one", "use a faster or less busy server")
    return Finding("fsync", "fine", told)


def clock(mount: Mount, offset: Offset | str) -> Finding:
    """Of the clock that stamps files."""
    if isinstance(offset, str):
        return Finding("clock", "unsafe", f"no file can be given the time: {offset}", ANOTHER)
    return _clock("clock", "the file server's clock" if mount.network else "the clock of files", offset)


def _clock(check: str, whose: str, offset: Offset) -> Finding:
    told = f"{whose} is {_ahead(offset)}"
    if abs(offset.seconds) - offset.bound > CLOCKS_APART:
        return Finding(check, "slow", f"{told}: times are shown wrongly", "keep both clocks with NTP (chrony)")
    return Finding(check, "fine", told)


def _ahead(offset: Offset) -> str:
    if abs(offset.seconds) <= max(offset.bound, NEAR):
        return f"right within {duration(abs(offset.seconds) + offset.bound)}"
    side = "ahead of" if offset.seconds > 0 else "behind"
    return f"{duration(abs(offset.seconds))} (give or take {duration(offset.bound)}) {side} this host's"


def ownership(mount: Mount, uid: int, owner: int | str, users: str = "single") -> Finding:
    """Of whom a file belongs to that we made: the owner of a task file is whose job it is."""
    if isinstance(owner, str):
        return Finding("owner", "unsafe", f"nothing can be written: {owner}", "mount it with rw, or take other modes")
    if owner == uid:
        root = "; root of any client may do all (no_root_squash)" if uid == 0 and mount.network else ""
        return Finding("owner", "fine", f"files belong to who made them{root}")
    if uid == 0 and users == "multi":
        text = f"root is uid {owner} there (root_squash), which a spool of several users allows for; whether files of"
        return Finding("owner", "left out", f"{text} users are theirs was not looked at", "run it as one of them too")
    if uid == 0:
        change = "run the head and the nodes as the user whose jobs they serve"
        return Finding("owner", "slow", f"root is uid {owner} there (root_squash)", change)
    change = "map users by their own numbers (no all_squash; the same idmap domain)"
    return Finding("owner", "unsafe", f"a file made by uid {uid} belongs to uid {owner}", change)


def whom(users: str, account: str, troubles: list[str], links: bool, mount: Mount) -> Finding:
    """Of modes and owners in a spool. troubles: what is wrong with them; links: whether this host keeps users from
    linking others' files."""
    multi = users == "multi"
    served = f"multi, as {account}" if multi else "single"
    if troubles:
        change = "skyspool init, as root, makes them right" if multi else "spoold fsck --repair mends that"
        return Finding("users", "unsafe" if multi else "slow", f"{served}: {'; '.join(troubles)}", change)
    if multi and not links:
        text = f"{served}: on this host anybody can link others' files, and submit them (fs.protected_hardlinks = 0)"
        return Finding("users", "unsafe", text, "sysctl fs.protected_hardlinks=1")
    believed = "; root of any host that mounts it can be any user (sec=sys)" if multi and mount.has("sec=sys") else ""
    return Finding("users", "fine", f"{served}: modes and owners are right{believed}")


def room(found: Room) -> list[Finding]:
    """Of what is free. Both may be well again soon."""
    verdict = _left(found.free, FULL, min(NEARLY_FULL, found.total // 10))
    change = "" if verdict == "fine" else MAKE_ROOM
    lines = [Finding("room", verdict, f"{amount(found.free)} of {amount(found.total)} free", change)]
    if not found.inodes:
        return [*lines, Finding("inodes", "fine", "no fixed number")]
    few = _left(found.inodes_free, FEW_INODES, min(SOME_INODES, found.inodes // 10))
    told = f"{found.inodes_free:,} of {found.inodes:,} free"
    return [*lines, Finding("inodes", few, told, "" if few == "fine" else "remove small files: skyspool prune")]


def _left(free: int, least: int, little: int) -> Verdict:
    return "unsafe" if free < least else "slow" if free < little else "fine"


def cannot_write(trouble: str, free: Room) -> list[Finding]:
    """Of a directory in which nothing may be made: what is left out, and what can be told all the same."""
    left = "create, link, replace, listing, locks, fsync, clock, owner"
    change = _change(trouble, "run it as the user whom the spool belongs to")
    return [Finding("writing", "left out", f"{trouble}: {left} were not looked at", change), *room(free)]


# ---- two hosts


def together(mount: Mount, found: Together) -> list[Finding]:
    """Of what two hosts measured."""
    return [
        *_reach(mount, found),
        *(_race(kind, tally) for kind, tally in found.races.items()),
        _whole(found.reads),
        _listing(found.listed),
        _missing(found.missing),
        _head_lock(found.head_lock),
        *(_kernel_lock(name, result) for name, result in found.locks.items()),
        _clock("clock", f"the clock of {found.other.host}", found.offset),
    ]


def _reach(mount: Mount, found: Together) -> list[Finding]:
    """Whether they were two hosts, and this one knows that it shares the file system."""
    if found.one_kernel:
        text = "both sides ran on one host: what follows says nothing of others"
        return [Finding("hosts", "left out", text, "run the second one on another host")]
    if not mount.network:
        text = f"{mount.kind} is not known as a network file system: what others do is seen late"
        return [Finding("hosts", "slow", text, "set sweep: 2s in spool.yaml, and tell the makers of skyspool")]
    return []


def _race(kind: str, tally: Tally) -> Finding:
    names = f"of {tally.names} names that both wanted"
    if tally.both:
        return Finding(kind, "unsafe", f"{names} both got {tally.both}", NFS)
    if tally.miscounted:
        return Finding(kind, "unsafe", f"links are counted wrongly in {tally.miscounted} cases", NFS)
    if tally.nobody:
        text = f"{names} nobody was told to have got {tally.nobody}: replies are lost"
        return Finding(kind, "slow", text, "look at the network, and at the server's load")
    return Finding(kind, "fine", f"{names} each went to one")


def _whole(seen: list[Reads] | str) -> Finding:
    """Of reading what is replaced by rename."""
    if isinstance(seen, str):
        return Finding("replace", "unsafe", f"a file cannot be replaced by rename: {seen}", _change(seen, NFS))
    reads = sum(found.reads + found.missing for found in seen)
    for what, words in (("torn", "torn"), ("missing", "gone"), ("older", "older than one seen before")):
        if count := sum(getattr(found, what) for found in seen):
            text = f"a file that is replaced was {words} in {count} of {reads} reads"
            return Finding("replace", "unsafe", text, NFS)
    stale = sum(found.stale for found in seen)
    again = f", opened again {stale} times (ESTALE)" if stale else ""
    return Finding("replace", "fine", f"whole in {reads} reads of a file being replaced{again}")


def _listing(seen: list[Listed]) -> Finding:
    """Of how late files are seen that come while one lists."""
    stuck, rounds = sum(found.stuck for found in seen), sum(found.rounds for found in seen)
    if stuck:
        text = f"in {stuck} of {rounds} rounds a file stayed unseen until the next change of its directory"
        return Finding("listing", "slow", text, "mount it with vers=4.2, which counts changes")
    worst = max(found.seconds for found in seen)
    return Finding("listing", "fine", f"shows new files after {duration(worst)} at most, in {rounds} rounds")


def _missing(seen: list[Missing]) -> Finding:
    if not all(found.refreshed for found in seen):
        text = "a name that was missing stays missing even after its directory was listed"
        return Finding("missing", "unsafe", text, "mount it with lookupcache=positive")
    times = [found.seconds for found in seen]
    late = max((seconds for seconds in times if seconds is not None), default=0.0)
    told = f"more than {duration(LATEST)}" if None in times else duration(late)
    return Finding("missing", "fine", f"a name once missing is seen {told} late, after a listing at once")


def _head_lock(result: str) -> Finding:
    if result == EXCLUDES:
        return Finding("head lock", "fine", WORKS)
    return Finding("head lock", "unsafe", f"the lock of the heads does not work: {_lock_words(result)}", NFS)


def _kernel_lock(name: str, result: str) -> Finding:
    if result == EXCLUDES:
        return Finding(name, "fine", WORKS)
    text = f"{_lock_words(result)}; {NEEDS_NONE}"
    return Finding(name, "slow", text, "mount it without nolock, on both hosts")


def _lock_words(result: str) -> str:
    return {BOTH: "both hosts have it at once", STUCK: "it stays with who had it first"}.get(result, result)


def duration(seconds: float) -> str:
    """`30 us`, `4.1 ms`, `2.0 s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
