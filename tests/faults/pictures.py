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
from collections.abc import Mapping

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


def _walk(folder: str, below: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(f"{folder}{below}") as entries:
        for entry in entries:
            path = f"{below}/{entry.name}"
            found.append((path, entry.stat(follow_symlinks=False)))
            if entry.is_dir(follow_symlinks=False):
                found += _walk(folder, path)
    return found
