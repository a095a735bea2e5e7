"""What users do with their files, and what they may expect of it.

`due` counts, for each text, how many jobs it has to become: one for each submission that was told to have succeeded,
and for each copy. Of a submission whose call failed or whose host died nobody knows; it may become a job (`maybe`).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from spool_layout import history
from spool_layout.paths import Spool, drop_name, id_of, is_day
from spool_layout.storage import Disk
from tests.simulation import calls
from tests.simulation.plan import Deed
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.hosts import Host

SOON = 15.0  # seconds within which a plain write is over, to be safe: less than the settle time
TOKENS = "0123456789abcdefghijklmnopqrstuv"


class Users:
    """All of them."""

    def __init__(self) -> None:
        self.due: Counter[str] = Counter()
        self.maybe: Counter[str] = Counter()
        self.texts: dict[str, bytes] = {}  # digest -> text of all that was ever dropped
        self.requests = 0
        self.said: list[str] = []

    def act(self, deed: Deed, host: Host) -> None:
        """Start a deed, in a process of its own."""
        if host.up:
            process = Process(host.world, host, f"user {deed.name} ({deed.kind})@{host.name}", lambda: self._do(deed))
            host.world.spawn(process)

    def _do(self, deed: Deed) -> None:
        spool = Spool(calls.ROOT)
        try:
            getattr(self, f"_{deed.kind.replace(' ', '_')}")(deed, spool, Disk())
        except OSError as error:
            self.said.append(f"{deed.kind} {deed.name}: {error}")

    # ---- submitting

    def _begin(self, text: bytes) -> str:
        digest = history.digest(text)
        self.texts[digest] = text
        self.maybe[digest] += 1
        return digest

    def _done(self, digest: str) -> None:
        self.due[digest] += 1
        self.maybe[digest] -= 1

    def _client(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """As our client does: whole, in tmp/, then moved under a name that nobody else has."""
        text = f"{deed.text}...\n".encode()
        digest = self._begin(text)
        token = "".join(TOKENS[int(deed.chance * 32 ** (i + 1)) % 32] for i in range(14))
        name = drop_name(deed.name, token)
        private = os.path.join(spool.tmp, f"{name}.part")
        disk.publish(private, text, mode=0o600)
        written = disk.stat(private)
        if disk.move(private, spool.dropped(name), written.st_ino if written else None):
            disk.sync(spool.pending)
            self._done(digest)

    def _name(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """Made under the first free one of few names, which are used again and again."""
        text = f"{deed.text}...\n".encode()
        digest = self._begin(text)
        for number in range(20):
            if self._put(spool.dropped(f"train{number}.yaml"), text):
                self._done(digest)
                return

    def _put(self, path: str, text: bytes) -> bool:
        """Whether a name was free: then the file is there, whole. (Not by link(2) and unlink(2): a head that looks
        between the two sees a file with two names, and rejects it.)"""
        os_ = _os()
        try:
            descriptor = os_.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        os_.write(descriptor, text)
        os_.fsync(descriptor)
        os_.close(descriptor)
        return True

    def _write(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """With an editor or cp: in two pieces, without an end mark."""
        os_, text = _os(), deed.text.encode()
        digest = self._begin(text)
        path = spool.dropped(f"{deed.name}-written.yaml")
        began = os_.world.now
        descriptor = os_.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os_.write(descriptor, text[:10])
        os_.fsync(descriptor)
        os_.world.current.sleep(deed.chance * 10)
        os_.write(descriptor, text[10:])
        os_.close(descriptor)
        if os_.world.now - began < SOON:
            self._done(digest)

    def _junk(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """What is no task."""
        self._put(spool.dropped(f"{deed.name}-junk.yaml"), b"run: [\n...\n")

    # ---- with what waits, runs, and is over

    def _waiting(self, deed: Deed, spool: Spool, disk: Disk) -> str:
        names = sorted(e.name for e in disk.list(spool.pending) if id_of(e.name) is not None)
        return names[int(deed.chance * len(names))] if names else ""

    def _edit(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """A waiting file is replaced by another text; whether by then it still waits, nobody knows."""
        if name := self._waiting(deed, spool, disk):
            text = f"{deed.text}# edited\n...\n".encode()
            self._begin(text)
            disk.publish(spool.dropped(name), text)

    def _delete(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """A waiting file is removed."""
        if name := self._waiting(deed, spool, disk):
            disk.remove(spool.dropped(name))

    def _unlabel(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """The file of a started job is removed, which changes nothing once it runs."""
        names = sorted(e.name for e in disk.list(spool.running))
        if names:
            disk.remove(spool.started(names[int(deed.chance * len(names))]))

    def _copy(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        """cp done/DAY/ID.NAME.STATUS.yaml pending/: it runs again."""
        days = sorted(e.name for e in disk.list(spool.done) if is_day(e.name))
        found = [(day, e.name) for day in days for e in disk.list(spool.day(day)) if id_of(e.name) is not None]
        found = sorted((day, name) for day, name in found if name.endswith(".yaml"))
        if not found:
            return
        day, name = found[int(deed.chance * len(found))]
        text = disk.read(os.path.join(spool.day(day), name))
        if text is None or not text.endswith(b"...\n"):
            return
        digest = self._begin(text)
        if self._put(spool.dropped(f"{deed.name}-again.{name}"), text):
            self._done(digest)

    # ---- requests

    def _ask(self, deed: Deed, spool: Spool, disk: Disk, words: str) -> None:
        if self._put(spool.request(f"{deed.name}.yaml"), f"cancel: {words}\n...\n".encode()):
            self.requests += 1

    def _cancel(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        folder = spool.running if deed.chance < 0.7 else spool.pending
        ids = sorted(i for e in disk.list(folder) if (i := id_of(e.name)) is not None)
        if ids:
            self._ask(deed, spool, disk, f"[{ids[int(deed.chance * 97) % len(ids)]}]")

    def _cancel_all(self, deed: Deed, spool: Spool, disk: Disk) -> None:
        self._ask(deed, spool, disk, "all")


def _os() -> calls.Os:
    from spool_layout import storage

    return storage.os  # type: ignore[return-value]
