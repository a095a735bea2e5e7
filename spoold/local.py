"""What a daemon keeps on its own host, never on the spool: where that is, and which boot of the host this is."""

from __future__ import annotations

import functools
import os
import stat

from spool_layout.becoming import Account
from spool_layout.errors import SpoolError


@functools.cache
def boot_id() -> str:
    """What tells this boot of the host from any other."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def state_base(given: str | None = None) -> str:
    """The directory for local state: `given`, else /var/lib/skyspool for root, /var/tmp/skyspool-UID for others.

    /var/tmp outlives a reboot. It is everybody's, so ours in it has to be ours: made by us, closed to others, no link.
    """
    base = base_path(given, os.getuid())
    os.makedirs(os.path.dirname(base), exist_ok=True)
    try:
        os.mkdir(base, 0o700)
    except FileExistsError:
        pass
    info = os.lstat(base)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise SpoolError(
            f"{base} is not a directory that only we may write to", "remove it, or name another: --state DIR"
        )
    return base


def base_path(given: str | None, uid: int) -> str:
    """The path of that directory, for a user."""
    if given:
        return os.path.abspath(given)
    return "/var/lib/skyspool" if uid == 0 else f"/var/tmp/skyspool-{uid}"


def make_base(given: str | None, account: Account) -> None:
    """As root: the directory that is named for local state, if it is missing, for an account that cannot make it."""
    if given and not os.path.lexists(given):
        os.makedirs(given, 0o711)
        os.chown(given, account.uid, account.gid, follow_symlinks=False)


def state_dir(spool_id: str, given: str | None = None) -> str:
    """The directory for one spool in it."""
    path = os.path.join(state_base(given), spool_id)
    os.makedirs(path, 0o700, exist_ok=True)
    return path


@functools.cache
def version() -> str:
    """The installed version of this program."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("skyspool")
    except PackageNotFoundError:
        return "0"
