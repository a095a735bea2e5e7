"""A host's own disk, in memory: files, directories, FIFOs and flock(2), as far as the product uses them.

Calls take no time; each is a point where its process may be killed. A power loss keeps all of it, nothing, or keeps
the names and loses what recently written files held.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import random
from collections.abc import Callable, Iterator
from typing import Any


class Node:
    """A file, a directory (children) or a FIFO (data is what was written and not read)."""

    __slots__ = ("changed", "children", "data", "fifo", "locked")

    def __init__(self, now: float, *, directory: bool = False, fifo: bool = False) -> None:
        self.children: dict[str, Node] | None = {} if directory else None
        self.data = b""
        self.fifo, self.changed = fifo, now
        self.locked: object = None  # the open file that holds the exclusive lock


def missing(path: str) -> FileNotFoundError:
    """ENOENT."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


@functools.lru_cache(10_000)
def words_of(path: str) -> tuple[str, ...]:
    """The names that a path is made of."""
    return tuple(word for word in path.split("/") if word)


class LocalDisk:
    """One disk. clock: true seconds of the run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._make()

    @property
    def now(self) -> float:
        """The time that files get."""
        return self.clock()

    def _make(self) -> None:
        self.top = Node(0.0, directory=True)
        self._folders: dict[str, dict[str, Node]] = {}
        for folder in ("/var", "/var/lib", "/var/tmp", "/tmp"):
            self.mkdir(folder)

    def _walk(self, path: str) -> Node | None:
        """What stands at a path. Where its directory is, is known from the last time, until a directory moves."""
        folder, _, name = path.rpartition("/")
        children = self._folders.get(folder)
        if children is not None and name:
            return children.get(name)
        node: Node | None = self.top
        for word in words_of(path):
            if node is None or node.children is None:
                return None
            children = node.children
            node = children.get(word)
        if children is not None and name:
            self._folders[folder] = children
        return node

    def _gone(self, node: Node) -> None:
        """It stands no longer where it stood."""
        if node.children is not None:
            self._folders.clear()

    def find(self, path: str) -> Node:
        """What stands there; FileNotFoundError."""
        node = self._walk(path)
        if node is None:
            raise missing(path)
        return node

    def exists(self, path: str) -> bool:
        """Whether something stands there."""
        return self._walk(path) is not None

    def _parent(self, path: str) -> tuple[dict[str, Node], str]:
        folder, _, name = path.rstrip("/").rpartition("/")
        node = self.find(folder)
        if node.children is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return node.children, name

    def listdir(self, path: str) -> list[str]:
        """Names in a directory."""
        node = self.find(path)
        if node.children is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return list(node.children)

    def put(self, path: str, node: Node) -> None:
        """A new name; FileExistsError."""
        entries, name = self._parent(path)
        if name in entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        entries[name] = node

    def mkdir(self, path: str) -> None:
        """mkdir(2)."""
        self.put(path, Node(self.now, directory=True))

    def makedirs(self, path: str, exist_ok: bool) -> None:
        """os.makedirs."""
        if self.exists(path):
            if not exist_ok:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return
        parent = path.rstrip("/").rpartition("/")[0]
        if parent:
            self.makedirs(parent, True)
        self.mkdir(path)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        entries, name = self._parent(path)
        if name not in entries:
            raise missing(path)
        self._gone(entries.pop(name))

    def remove_tree(self, path: str) -> None:
        """All of it, if it is there."""
        if self.exists(path):
            self.unlink(path)

    def rename(self, source: str, target: str) -> None:
        """rename(2); a directory that is not empty is never replaced."""
        entries, name = self._parent(source)
        if name not in entries:
            raise missing(source)
        others, other = self._parent(target)
        if other in others and others[other].children:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), target)
        replaced = others.get(other)
        others[other] = moved = entries.pop(name)
        for node in (moved, replaced):
            if node is not None:
                self._gone(node)

    def link(self, source: str, target: str) -> None:
        """link(2)."""
        self.put(target, self.find(source))

    def lose_power(self, kept: str, rng: random.Random, since: float) -> None:
        """kept: "all", "nothing", or "torn": files written since then lose their content, by chance."""
        if kept == "nothing":
            self._make()
        elif kept == "torn":
            for node in self._files(self.top):
                if node.changed >= since and rng.random() < 0.5:
                    node.data = b""

    def _files(self, node: Node) -> Iterator[Node]:
        for child in (node.children or {}).values():
            if child.children is None:
                yield child
            else:
                yield from self._files(child)


class LocalFile:
    """An open file, directory or FIFO of it."""

    def __init__(self, disk: LocalDisk, node: Node, path: str) -> None:
        self.disk, self.node, self.path = disk, node, path
        self.position = 0

    def read(self, count: int) -> bytes:
        """read(2): of a FIFO what is in it."""
        if self.node.children is not None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        data = self.node.data[self.position : self.position + count]
        if not self.node.fifo:
            self.position += len(data)
        elif not data:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        else:
            self.node.data = self.node.data[count:]
        return data

    def write(self, data: bytes, offset: int | None = None) -> int:
        """write(2), at the end; a FIFO that nobody reads keeps so much."""
        self.node.data = (self.node.data + data)[-65536 if self.node.fifo else 0 :]
        self.node.changed = self.disk.now
        return len(data)

    def truncate(self) -> None:
        """ftruncate(2), to nothing."""
        self.node.data = b""

    def lock(self) -> None:
        """flock(2) LOCK_EX | LOCK_NB."""
        if self.node.locked not in (None, self):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.node.locked = self

    def abandon(self, share: float) -> None:
        """Its process is gone."""
        self.close()

    def close(self) -> None:
        """close(2)."""
        if self.node.locked is self:
            self.node.locked = None

    def stat(self) -> Any:
        """Nobody asks."""
        raise AssertionError(f"fstat of {self.path}")


class Stream:
    """What open() gives for a local file."""

    def __init__(self, disk: LocalDisk, path: str, mode: str, encoding: str | None) -> None:
        self.disk, self.mode, self.encoding = disk, mode, encoding or "utf-8"
        self.node = self._opened(path)
        self.parts: list[bytes] = []

    @classmethod
    def of(cls, node: Node, mode: str) -> Stream:
        """To read what no disk holds."""
        stream = cls.__new__(cls)
        stream.node, stream.mode, stream.encoding, stream.parts = node, mode, "utf-8", []
        return stream

    def _opened(self, path: str) -> Node:
        if "r" in self.mode:
            node = self.disk.find(path)
            if node.children is not None:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            return node
        if not self.disk.exists(path):
            self.disk.put(path, Node(self.disk.now))
        node = self.disk.find(path)
        if "w" in self.mode:
            node.data = b""
        return node

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def flush(self) -> None:
        """What was written, to the file."""
        if not self.parts:
            return
        self.node.data += b"".join(self.parts)
        self.node.changed = self.disk.now
        self.parts = []

    def close(self) -> None:
        """The same."""
        self.flush()

    def read(self) -> Any:
        """All of it."""
        return self.node.data if "b" in self.mode else self.node.data.decode(self.encoding, "replace")

    def readlines(self) -> list[str]:
        """Its lines."""
        return io.StringIO(self.read()).readlines()

    def write(self, data: Any) -> int:
        """At the end."""
        self.parts.append(data if isinstance(data, bytes) else data.encode(self.encoding))
        return len(data)

    def writelines(self, lines: list[str]) -> None:
        """At the end."""
        for line in lines:
            self.write(line)

    def tell(self) -> int:
        """Its size."""
        return len(self.node.data) + sum(map(len, self.parts))
