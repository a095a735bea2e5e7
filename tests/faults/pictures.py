"""What stands below a directory, as one short word: where two are the same, whoever comes new to both does the same.

Names, kinds, modes, link counts and contents. What changes with each telling and decides nothing is left out: times of
files, in records as well (the stories settle for 0 seconds), and with them the checksums of whole records; inodes are
told by the name that each has now, if any; a file that was built anew stands for the one that it was. Records have to
be made with the same clock and the same names by chance.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Hashable, Mapping

from spoold.head.term import Term
from spoold.node.runner import Runner

VARIES = re.compile(rb'"inode":(\d+)|"submitted":[\d.]+|"at": [\d.]+|(?<=}) [0-9a-f]{8}$', re.MULTILINE)


def picture(folder: str, inodes: Mapping[int, int] | None = None) -> bytes:
    """The word for what is below a directory. inodes: of files that were built anew -> the one that each stands for."""
    found = dict(sorted(_walk(folder, "")))
    taken_for = {info.st_ino: (inodes or {}).get(info.st_ino, info.st_ino) for info in found.values()}
    first: dict[bytes, str] = {}
    for path, info in found.items():
        first.setdefault(str(taken_for[info.st_ino]).encode(), path)
    word = hashlib.blake2b()
    for path, info in found.items():
        told = f"{path}\0{info.st_mode}\0{first[str(taken_for[info.st_ino]).encode()]}\0"
        word.update(told.encode())
        if stat.S_ISREG(info.st_mode):
            with open(f"{folder}{path}", "rb") as file:
                data = VARIES.sub(lambda match: repr(match[1] and first.get(match[1])).encode(), file.read())
            word.update(f"{info.st_nlink} {len(data)}\0".encode() + data)
    return word.digest()


def memory_of(term: Term) -> Hashable:
    """What a head that has come to rest remembers beside its state, as far as it decides what it does next: what it has
    claimed (claims.held), what it wrote to nodes (projector.wrote), which waiting files it has to read again
    (observer.baseline), what it waits for (observer.missing, leaving, again), outcomes that are not durable yet.

    Left out: numbers of its records (projector.seq, keeper: they stand in what was written); listener and hearing
    (beats, and since when: nobody is silent here); turns among users and files (observer._turn, DropBox: nothing is
    left in a drop box at rest); projector.days (a directory that is there is made again without harm); what was told
    once (projector.unwritten)."""
    observer, projector = term.observer, term.projector
    stats = {ident: term.disk.stat(term.spool.dropped(job.file)) for ident, job in term.state.jobs.items()}
    unread = {
        ident
        for ident, info in stats.items()
        if info and observer.baseline.get(ident) != (info.st_ino, info.st_ctime_ns)
    }
    claimed = sorted((claim, ready is None) for claim, ready in term.claims.held.items())
    waits = sorted(observer.missing), sorted(observer.leaving.items()), term.again is None
    return repr((claimed, sorted(projector.wrote.items()), sorted(projector.outcomes), sorted(unread), waits))


def memory_of_node(runner: Runner) -> Hashable:
    """The same of a runner: what it has seen, ordered (named, urged), settled (final, standing) and has to tell.

    Left out: attention, pace, news and the times of reports (when it looks, not what it does: it is driven pass by
    pass); written and beat (status.json says them); assigned (assigned.json does, by read_version); logs and flusher
    (no log is written here); the cleaner (nothing is being ended at rest)."""
    known = runner.seen, runner.read_version, runner.read_incarnation, runner.incarnation, runner.lapses, runner.lapsed
    of = runner.attempts
    attempts = of.urged, of.named, of.final, of.standing, of.ending, of.were_ending
    trouble = runner.troubles, of.unclear, runner.checked, runner.went_back, runner.meanwhile
    return repr((known, [sorted(one.items()) if isinstance(one, dict) else sorted(one) for one in attempts], trouble))


def _walk(folder: str, below: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(f"{folder}{below}") as entries:
        for entry in entries:
            path = f"{below}/{entry.name}"
            found.append((path, entry.stat(follow_symlinks=False)))
            if entry.is_dir(follow_symlinks=False):
                found += _walk(folder, path)
    return found
