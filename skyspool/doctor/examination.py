"""One round of the doctor on this host: alone, or with another host, from the directory to a diagnosis.

It makes no spool. In a spool it measures in tmp/, which is on the same file system as all else that matters, elsewhere
in the directory itself; both times in a directory of its own that is gone afterwards. What it finds is kept in a spool
alone, in doctor/HOST.json. Where nothing may be written, what can be read is told, and what was left out.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from skyspool.doctor import experiments, judging, meeting, probes
from spool_layout import diagnosis, modes, mounts, settings
from spool_layout.diagnosis import Diagnosis, Finding
from spool_layout.errors import Damaged, NotASpool, SpoolError, UsageError
from spool_layout.mounts import Mount
from spool_layout.paths import FORMAT, Spool, probe_dir
from spool_layout.storage import Disk
from spool_layout.users import user_name

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Place(NamedTuple):
    """What is examined. parent: where it is measured; spool: None where none was made there yet."""

    root: str
    parent: str
    spool: Spool | None
    mount: Mount


class Wanted(NamedTuple):
    """Whom to meet: a host to invite, or the word of one that waits. invite: tells the user what to type there."""

    host: str | None = None
    word: str | None = None
    patience: float = 300.0


def place(directory: str) -> Place:
    """Of a directory. UsageError where it is none; what a spool's settings may be wrong about is told."""
    from skyspool.clusters import lookup, open_spool

    found = lookup(directory)
    root = found.spool.root if found else Spool(directory).root
    if not os.path.isdir(root):
        raise UsageError(f"{root} is no directory", f"mkdir -p {root}")
    try:
        spool = open_spool(root).spool
    except NotASpool:
        return Place(root, root, None, mounts.mount_of(root))
    return Place(root, spool.tmp, spool, mounts.mount_of(spool.tmp))


class Round(NamedTuple):
    """What was found; and what went wrong with the other host, which leaves what this one found as it is."""

    found: Diagnosis
    trouble: SpoolError | None = None


def examine(where: Place, wanted: Wanted, disk: Disk, tell: Callable[[str], None]) -> Round:
    """Measure and judge. tell: says what to type on the other host, and who came."""
    if trouble := _cannot_write(where.parent):
        return _left_out(where, trouble)
    try:
        return _measured(where, wanted, disk, tell)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _left_out(where, probes.words_of(error))  # the last of the room went just now


def _left_out(where: Place, trouble: str) -> Round:
    findings = [*mounts.judge(where.mount), *judging.cannot_write(trouble, probes.room(where.root))]
    return Round(_diagnosis(where, time.time(), findings))


def _measured(where: Place, wanted: Wanted, disk: Disk, tell: Callable[[str], None]) -> Round:
    if wanted.word is not None:
        return _as_guest(where, wanted.word, wanted.patience, disk)
    with meeting.workroom(disk, where.parent) as word:
        meeting.sweep(disk, where.parent, word)
        if wanted.host is None:
            return Round(_alone(where, disk))
        speaker = meeting.invite(disk, probe_dir(where.parent, word), wanted.patience)
        tell(f"On {wanted.host}, type:\n\n    skyspool doctor {where.root} --meet {word}\n")
        found = _alone(where, disk)
        try:
            other = meeting.receive(speaker, wanted.host, wanted.patience)
            tell(f"{other.host} is here; this takes some ten seconds")
            return Round(_met(where, found, experiments.all_of_them(speaker, other)))
        except (meeting.NobodyCame, OSError) as error:
            return Round(found, meeting.explained(speaker, error))


def _as_guest(where: Place, word: str, patience: float, disk: Disk) -> Round:
    """The second side's round. What the first one made is its own to remove, unless the meeting fails."""
    speaker, other = meeting.join(disk, where.parent, word, patience)
    try:
        both = experiments.all_of_them(speaker, other)
    except (meeting.NobodyCame, OSError) as error:
        trouble = meeting.explained(speaker, error)
        meeting.clear(disk, speaker.folder)
        return Round(_alone(where, disk), trouble)
    except BaseException:
        meeting.clear(disk, speaker.folder)
        raise
    return Round(_met(where, _alone(where, disk), both))


def _cannot_write(parent: str) -> str:
    """Why nothing can be made there, or ""."""
    folder = probe_dir(parent, "000000")
    try:
        os.mkdir(folder, 0o700)
        os.rmdir(folder)
    except OSError as error:
        return probes.words_of(error)
    return ""


def _alone(where: Place, disk: Disk) -> Diagnosis:
    with meeting.workroom(disk, where.parent) as word:
        found = probes.measure(probe_dir(where.parent, word))
    ahead = found.clock.seconds if isinstance(found.clock, probes.Offset) else 0.0
    users = settings.load(where.spool, disk).users if where.spool else "single"
    findings = [*mounts.judge(where.mount), *judging.alone(where.mount, found, users)]
    if where.spool:
        findings.append(_whom(where.spool, users, disk, where.mount))
    return _diagnosis(where, time.time() + ahead, findings)


def _whom(spool: Spool, users: str, disk: Disk, mount: Mount) -> Finding:
    """Modes and owners of the spool's directories."""
    account = os.stat(spool.root).st_uid
    troubles = ["it belongs to root, and no head or node starts"] if users == "multi" and account == 0 else []
    for place in modes.wanted(spool, users):
        info = disk.stat(os.path.normpath(os.path.join(spool.root, place)))
        if info is None:
            troubles.append(f"{place}/ is missing")
        elif trouble := modes.trouble(place, stat.S_IMODE(info.st_mode), users):
            troubles.append(f"{place}/ has mode {stat.S_IMODE(info.st_mode):04o}, {trouble}")
        elif users == "multi" and info.st_uid != account:
            troubles.append(f"{place}/ belongs to {user_name(info.st_uid)}")
    return judging.whom(users, user_name(account), troubles, probes.links_are_protected(), mount)


def _diagnosis(where: Place, now: float, findings: list[Finding]) -> Diagnosis:
    from importlib.metadata import version

    kind, options, source, _ = where.mount
    host, by = socket.gethostname(), version("skyspool")
    return Diagnosis(FORMAT, host, now, kind, source, options, findings, version=by)


def _met(where: Place, found: Diagnosis, both: experiments.Together) -> Diagnosis:
    from msgspec.structs import replace

    together = judging.together(where.mount, both)
    return replace(found, met=both.other.host, met_at=found.at, together=together)


def keep(where: Place, found: Diagnosis, disk: Disk) -> tuple[Diagnosis, str | None]:
    """Keep it in the spool, with what two hosts found on the same mount before. Where; None: it could not be kept."""
    if where.spool is None:
        return found, None
    found = _with_what_was_met(where.spool, found, disk)
    try:
        diagnosis.keep(where.spool, disk, found)
    except OSError:
        return found, None
    return found, where.spool.diagnosis(found.host)


def _with_what_was_met(spool: Spool, found: Diagnosis, disk: Disk) -> Diagnosis:
    from msgspec.structs import replace

    try:
        before = diagnosis.of_host(spool, disk, found.host)
    except Damaged:
        return found
    if found.met or before is None or not before.applies(found.file_system, found.source, found.options):
        return found
    return replace(found, met=before.met, met_at=before.met_at, together=before.together)
