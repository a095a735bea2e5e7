"""The NFS client of one host: what its processes see of the server, with its caches, delays and errors.

What is modelled, each as measured on Linux (docs of the lane on real NFS):

- a name seen missing stays missing, a name renamed away still opens, for `cached` seconds or until its directory is
  opened and seen changed; a file that was unlinked or replaced is looked up anew when it is opened;
- attributes by path are as old as `cached`; those of a file just opened are fresh (close to open);
- a listing is as fresh as the directory's time stamps: of two changes within one step of the server's clock, with a
  listing between, the second one stays unseen;
- written data is the client's until fsync or close: a host that dies loses it, or all but a prefix;
- version 3 says ESTALE for an open file that was replaced, version 4 goes on reading it;
- a request or a reply is lost (the host is cut off, the server restarts, `lossy`): it is repeated, and what was done
  the first time says ENOENT or EEXIST the second time, unless the server remembers its answer. A rename that is
  repeated never takes another file than the first time: no protocol could survive that;
- a request of a process that was killed may still reach the server, later;
- `soft`: after so many seconds a call gives up with ETIMEDOUT or EIO, done or not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tests.simulation.server import Inode, Server

if TYPE_CHECKING:
    from tests.simulation.hosts import Host

T = TypeVar("T")
RETRANSMIT = 20.0  # seconds until a lost request is repeated, about


class Name(NamedTuple):
    """An entry of a listing, as os.scandir gives it."""

    name: str
    number: int

    def inode(self) -> int:
        """As os.DirEntry.inode."""
        return self.number


class Listing(list[Name]):
    """What os.scandir gives: a list that is a context."""

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Client:
    """One mount."""

    def __init__(self, host: Host, server: Server, cached: float, version: int) -> None:
        self.host, self.world, self.server = host, host.world, server
        self.cached, self.version = cached, version
        self.cut_until = 0.0
        self.slow = 0.0  # seconds that a call takes in the mean; 0: a millisecond
        self.lossy = 0.0  # share of replies that are lost
        self.soft = 0.0
        self.forget_all()

    def forget_all(self) -> None:
        """A reboot: all caches are empty."""
        self._names: dict[str, dict[str, tuple[Inode | None, float]]] = {}
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._listings: dict[str, Listing] = {}
        self._attributes: dict[Inode, tuple[os.stat_result, float]] = {}

    # ---- the wire

    def ask(self, call: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """One call to the server. again: what its repetition does, if that is another thing."""
        world, server = self.world, self.server
        process = world.current
        assert process is not None
        chance = process.rng.random
        world.calls += 1
        while True:
            if self._is_away():
                self._reach()
            process.flying = call
            world.pass_time(self._delay(chance()))
            process.flying = None
            if not self._is_away():
                break
        boots = server.boots
        result, error = None, None
        try:
            result = call()
        except OSError as caught:
            error = caught
        world.pass_time(self._delay(chance()))
        if boots != server.boots or self._is_away() or (self.lossy and chance() < self.lossy):
            remembered = boots == server.boots and chance() < 0.3
            result, error = self._repeat(again or call, (result, error), remembered)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _try(self, call: Callable[[], T]) -> tuple[T | None, OSError | None]:
        try:
            return call(), None
        except OSError as error:
            return None, error

    def _delay(self, chance: float) -> float:
        if not self.slow:
            return 0.0002 + 0.0008 * chance
        return self.slow * chance**3 * 4

    def _is_away(self) -> bool:
        now = self.world.now
        return self.cut_until > now or self.server.down_until > now

    def _reach(self) -> None:
        """Wait until the server can be reached; on a soft mount not for long."""
        process, world = self.world.current, self.world
        assert process is not None
        while self._is_away():
            left = max(self.cut_until, self.server.down_until) - world.now
            if self.soft and left > self.soft:
                process.sleep(self.soft)
                number = process.rng.choice((errno.ETIMEDOUT, errno.EIO))
                raise OSError(number, os.strerror(number))
            process.sleep(left + process.rng.random())

    def _repeat(
        self, call: Callable[[], T], first: tuple[T | None, OSError | None], remembered: bool
    ) -> tuple[T | None, OSError | None]:
        """The reply was lost: the same call once more."""
        process = self.world.current
        assert process is not None
        process.sleep(RETRANSMIT * (0.2 + process.rng.random()))
        self._reach()
        if remembered:
            return first
        self.world.pass_time(self._delay(process.rng.random()))
        return self._try(call)

    # ---- names

    def _find(self, path: str) -> Inode:
        """What stands at a path, as far as this client knows."""
        parent, _, name = path.rpartition("/")
        known = self._names.setdefault(parent, {})
        found = known.get(name)
        if found is None or found[1] < self.world.now:
            found = self._look_up(path, known, name)
        if found[0] is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found[0]

    def _look_up(self, path: str, known: dict[str, Any], name: str) -> tuple[Inode | None, float]:
        until = self.world.now + self.cached
        inode: Inode | None = None
        try:
            inode, told = self.ask(lambda: self._told(path))
            self._attributes[inode] = told, until
        except FileNotFoundError:
            inode = None
        known[name] = inode, until
        return inode, until

    def _told(self, path: str) -> tuple[Inode, os.stat_result]:
        inode = self.server.lookup(path)
        return inode, inode.stat()

    def _changed(self, *paths: str) -> None:
        """This host changed what stands at these paths."""
        for path in paths:
            parent, _, name = path.rpartition("/")
            self._names.get(parent, {}).pop(name, None)
            self._listings.pop(parent, None)
            self._stamps.pop(parent, None)

    # ---- opening

    def open(self, path: str, flags: int, mode: int) -> RemoteFile | RemoteDirectory:
        """open(2)."""
        if flags & os.O_DIRECTORY:
            return self._open_directory(path)
        if flags & os.O_CREAT:
            return self._create(path, flags, mode)
        inode, told = self._revalidated(path)
        return RemoteFile(self, inode, told, path)

    def _revalidated(self, path: str) -> tuple[Inode, os.stat_result]:
        """Close to open: what stands there, and its attributes of now."""
        inode = self._find(path)
        told = self.ask(inode.stat)
        if not inode.nlink:
            self._names.get(path.rpartition("/")[0], {}).pop(path.rpartition("/")[2], None)
            inode = self._find(path)
            told = self._attributes[inode][0]
        self._attributes[inode] = told, self.world.now + self.cached
        return inode, told

    def _open_directory(self, path: str) -> RemoteDirectory:
        folder, told = self.ask(lambda: self._told(path))
        if folder.entries is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._note_stamp(path, folder, told)
        return RemoteDirectory(self, folder, told, path)

    def _note_stamp(self, path: str, folder: Inode, told: os.stat_result) -> None:
        stamp = (told.st_mtime_ns, told.st_ctime_ns, id(folder))
        if self._stamps.get(path) != stamp:
            self._stamps[path] = stamp
            self._names.pop(path, None)
            self._listings.pop(path, None)

    def _create(self, path: str, flags: int, mode: int) -> RemoteFile:
        uid = self.host.uid

        made: list[Inode] = []

        def call() -> Inode:
            try:
                made.append(self.server.create(path, mode, uid))
                return made[0]
            except FileExistsError:
                if flags & os.O_EXCL and made != [self.server.lookup(path)]:  # it knows its own by a verifier
                    raise
                return self.server.lookup(path)

        inode = self.ask(call)
        self._changed(path)
        return RemoteFile(self, inode, inode.stat(), path)

    def scan(self, path: str) -> Listing:
        """scandir(3) of a directory that was just opened."""
        if path not in self._listings:
            folder = self.server.folder(path)

            def call() -> tuple[Listing, os.stat_result]:
                entries = self.server.folder(path).entries
                assert entries is not None
                return Listing(Name(name, inode.number) for name, inode in entries.items()), folder.stat()

            listing, told = self.ask(call)
            if self._stamps.get(path) != (told.st_mtime_ns, told.st_ctime_ns, id(folder)):
                return listing  # it changed on the way: not kept
            self._listings[path] = listing
        return self._listings[path]

    # ---- by path

    def stat(self, path: str) -> os.stat_result:
        """lstat(2): may be old."""
        inode = self._find(path)
        told, until = self._attributes.get(inode, (None, 0.0))
        if told is not None and until >= self.world.now:
            return told
        return self._revalidated(path)[1]

    def mkdir(self, path: str, mode: int) -> None:
        """mkdir(2)."""
        self.ask(lambda: self.server.mkdir(path, mode, self.host.uid))
        self._changed(path)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        self.ask(lambda: self.server.rmdir(path))
        self._changed(path)
        self._names.pop(path, None)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        try:
            self.ask(lambda: self.server.unlink(path))
        finally:
            self._changed(path)

    def rename(self, source: str, target: str) -> None:
        """rename(2)."""

        def again() -> None:
            try:
                self.server.lookup(source)
            except FileNotFoundError:
                self.server.rename(source, target)
            # else another file came there meanwhile: see above

        try:
            self.ask(lambda: self.server.rename(source, target), again)
        finally:
            self._changed(source, target)

    def link(self, source: str, target: str) -> None:
        """link(2)."""
        try:
            self.ask(lambda: self.server.link(source, target))
        finally:
            self._changed(target)
            self._attributes.clear()

    def set(self, inode: Inode, path: str, call: Callable[[], None]) -> os.stat_result:
        """Change attributes; what they are then."""

        def changed() -> os.stat_result:
            if not inode.nlink:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
            call()
            return inode.stat()

        told = self.ask(changed)
        self._attributes[inode] = told, self.world.now + self.cached
        if inode.entries is not None:
            self._listings.pop(path, None)
            self._stamps[path] = (told.st_mtime_ns, told.st_ctime_ns, id(inode))
        return told

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        inode = self._find(path)
        self.set(inode, path, lambda: self.server.chmod(inode, mode))


class RemoteFile:
    """An open file."""

    def __init__(self, client: Client, inode: Inode, told: os.stat_result, path: str) -> None:
        self.client, self.inode, self.told, self.path = client, inode, told, path
        self.position = 0
        self.dirty: list[tuple[int, bytes]] = []
        self.size = told.st_size

    def read(self, count: int) -> bytes:
        """read(2)."""

        def call() -> bytes:
            if not self.inode.nlink and self.client.version == 3:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)
            return self.inode.data[self.position : self.position + count]

        data = self.client.ask(call)
        self.position += len(data)
        return data

    def write(self, data: bytes, offset: int | None = None) -> int:
        """write(2), pwrite(2), and append: at the end that this client knows."""
        at = self.size if offset is None else offset
        self.dirty.append((at, bytes(data)))
        self.size = max(self.size, at + len(data))
        return len(data)

    def sync(self) -> None:
        """fsync(2)."""
        if not self.dirty:
            return
        pieces, self.dirty = self.dirty, []

        def call() -> os.stat_result:
            for at, data in pieces:
                self.client.server.write(self.inode, data, at)
            return self.inode.stat()

        self.told = self.client.ask(call)
        self.client._attributes.pop(self.inode, None)

    def abandon(self, share: float) -> None:
        """Its process is gone: what of the written data reaches the server."""
        for at, data in self.dirty:
            kept = data[: int(len(data) * share)]
            if kept and self.inode.nlink:
                self.client.server.write(self.inode, kept, at)
        self.dirty = []

    def close(self) -> None:
        """close(2)."""
        self.sync()

    def stat(self) -> os.stat_result:
        """fstat(2), fresh since the file was opened."""
        if self.dirty:
            self.sync()
        return self.told

    def utime(self, modified: int | None) -> None:
        """futimens(3)."""
        self.told = self.client.set(self.inode, self.path, lambda: self.client.server.set_times(self.inode, modified))

    def chmod(self, mode: int) -> None:
        """fchmod(2)."""
        self.told = self.client.set(self.inode, self.path, lambda: self.client.server.chmod(self.inode, mode))


class RemoteDirectory(RemoteFile):
    """An open directory."""

    def scan(self) -> Listing:
        """What is in it."""
        return self.client.scan(self.path)

    def sync(self) -> None:
        """fsync(2): nothing is kept back."""
