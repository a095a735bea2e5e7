"""Whom the daemons of a spool run as.

`single`: whoever started them; root only where the spool's directory is root's. `multi`: the account that the spool's
directory belongs to. A daemon that root started becomes that account for good, before it reads anything but spool.yaml;
one that somebody else started refuses.
"""

from __future__ import annotations

import encodings.ascii
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from spool_layout.becoming import Account, account_of, become
from spool_layout.errors import EXIT_CONFIG, SpoolError
from spool_layout.paths import Spool
from spool_layout.settings import Settings
from spool_layout.users import user_name
from spoold.local import make_base


class WrongUser(SpoolError):
    """A daemon was started by somebody who may not run it."""

    exit_code = EXIT_CONFIG
    fault = "admin"


def account(spool: Spool) -> Account:
    """The account of a spool of several users. WrongUser where it is root's, which must not read users' files."""
    info = os.stat(spool.root)
    if info.st_uid == 0:
        raise WrongUser(
            f"{spool.root} has users: multi and belongs to root: it needs an account of its own",
            f"skyspool init {shlex.quote(spool.root)} --users multi --owner skyspool",
        )
    return account_of(info.st_uid, info.st_gid)


def settle(spool: Spool, settings: Settings, state: str | None = None) -> None:
    """Become whom this daemon runs as. state: as given for local state, which is made before. WrongUser."""
    if settings.users != "multi":
        refuse_root(spool)
        return
    wanted = account(spool)
    if os.geteuid() == wanted.uid and os.getuid() == wanted.uid:
        return
    if os.geteuid() != 0:
        raise WrongUser(
            f"{spool.root} serves several users and belongs to {user_name(wanted.uid)}; "
            f"this was started by {user_name(os.getuid())}",
            f"start it as root or as {user_name(wanted.uid)}",
        )
    with lowered(wanted):
        must_be_readable(user_name(wanted.uid))
    make_base(state, wanted)
    os.umask(0o022)
    become(wanted)


def refuse_root(spool: Spool) -> None:
    """WrongUser for root in a spool of one user that is somebody else's: who can change the directory could make root
    run, or write, what they like; the owner of a spool of several users could say that it is one of one user."""
    owner = os.stat(spool.root).st_uid
    if os.geteuid() == 0 and owner != 0:
        raise WrongUser(
            f"{spool.root} belongs to {user_name(owner)}, who could make root run anything",
            f"start it as {user_name(owner)}; or, if it is to be root's: chown root {shlex.quote(spool.root)}",
        )


@contextmanager
def lowered(account: Account) -> Iterator[None]:
    """As root: with another user's rights over files, for a while."""
    groups = os.getgroups()
    os.setgroups(account.groups)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def must_be_readable(name: str) -> None:
    """WrongUser where this program, or its Python, is kept from whom we are now: imports would fail at any time."""
    for module in (encodings.ascii.__file__, __file__):
        try:
            os.close(os.open(module, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise WrongUser(
                f"{name} cannot read {module}, which this program needs: {error.strerror}",
                "install skyspool where everybody may read, for instance with PREFIX=/usr/local",
            ) from error
