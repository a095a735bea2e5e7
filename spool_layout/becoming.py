"""Turning into another user, completely and for good: groups, all three IDs, no capability left.

What is not complete raises PermissionError, so that nothing goes on half turned.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
NONE_LEFT = ("CapInh", "CapPrm", "CapEff", "CapAmb")  # of /proc/self/status; what only bounds others may stay


class Account(NamedTuple):
    """A user to turn into."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def account_of(uid: int, gid: int | None = None) -> Account:
    """A user as this host knows them. gid: where it does not know them. KeyError where that is not given either."""
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        if gid is None:
            raise
        return Account(uid, gid, (gid,))
    return Account(uid, entry.pw_gid, tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))))


def become(account: Account) -> None:
    """From root (effective, or to be had again) to this user, with no way back. PermissionError."""
    if os.geteuid() != 0:
        os.seteuid(0)
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _drop_capabilities()
    if not is_complete(account):
        raise PermissionError(errno.EPERM, f"cannot turn into user {account.uid} completely")


def is_complete(account: Account) -> bool:
    """Whether this process is that user and nobody else."""
    ids = os.getresuid() + os.getresgid()
    return (
        ids == (account.uid,) * 3 + (account.gid,) * 3
        and set(os.getgroups()) <= {account.gid, *account.groups}
        and not any(_capabilities().values())
    )


def _drop_capabilities() -> None:
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    ctypes.CDLL(None).capset(header, bytes(24))  # effective, permitted, inheritable: 2 x 32 bits each


def _capabilities() -> dict[str, int]:
    with open("/proc/self/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file if line.startswith(b"Cap"))
    return {name: int(lines.get(name.encode(), b"0"), 16) for name in NONE_LEFT}
