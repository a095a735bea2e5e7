"""init: make a spool. Idempotent: on a spool that is there it makes what is missing and says so.

A spool of several users belongs to an account of its own. Started by root, the directory is made and given to the
account, and all that is in it is made by a child that has become the account: also where root is nobody on the server.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spool_layout.becoming import Account

OWNER = "skyspool"  # of a spool of several users, where no other account is named


@click.command("init")
@click.argument("directory", metavar="DIR")
@click.option("--name", metavar="NAME", help="What to call the spool; the directory's own name where none is given.")
@click.option("--users", type=click.Choice(["single", "multi"]), help="multi: jobs run as who dropped them.")
@click.option("--owner", metavar="USER", help=f"multi: the account that the spool belongs to (default: {OWNER}).")
def command(directory: str, name: str | None, users: str | None, owner: str | None) -> None:
    """Make a spool in DIR, and add it to your configuration."""
    from skyspool.clusters import configuration, open_spool

    root = os.path.abspath(os.path.expanduser(directory))
    fresh = not os.path.exists(os.path.join(root, "spool.yaml"))
    mode = mode_of(root, users, owner) if fresh else mode_there(root, users)
    account = account_for(root, owner) if mode == "multi" else None
    name = free_name(root, name) if fresh else keep(root, name)
    make_root(root, account)
    as_account(account, lambda: make_inside(root, name if fresh else None, mode))
    open_spool(root)
    enter(name, root)
    click.echo(f"Spool {name} made: {root}" if fresh else f"Spool {name} was there, nothing in it was changed: {root}")
    if configuration().default == name:
        click.echo(f"It is your default cluster ({name}).", err=True)
    if fresh:
        click.echo(
            f"hint: spoold head {shlex.quote(root)}      # on one host\n"
            f" and: spoold node {shlex.quote(root)}      # on each host with GPUs{', as root' if account else ''}",
            err=True,
        )


# ---- for whom


def mode_of(root: str, users: str | None, owner: str | None) -> str:
    """The mode of a new spool. UsageError where an owner is named for one that needs none."""
    from spool_layout.errors import UsageError

    if owner is not None and users != "multi":
        raise UsageError("--owner is for spools of several users", f"skyspool init {shlex.quote(root)} --users multi")
    return users or "single"


def mode_there(root: str, users: str | None) -> str:
    """The mode of a spool that is there. UsageError where another one is wanted."""
    from skyspool.clusters import open_spool
    from spool_layout import settings
    from spool_layout.errors import UsageError
    from spool_layout.storage import Disk

    there = settings.load(open_spool(root).spool, Disk()).users
    if users not in (None, there):
        raise UsageError(
            f"{root} has users: {there}",
            f"let its jobs end, write users: {users} in {root}/spool.yaml, then init again",
        )
    return there


def account_for(root: str, owner: str | None) -> Account:
    """Whom a spool of several users shall belong to, or belongs to. UsageError where that cannot be."""
    import pwd

    from spool_layout.becoming import account_of
    from spool_layout.errors import UsageError

    there = os.stat(root) if os.path.isdir(root) else None
    try:
        if owner is not None or there is None or there.st_uid == 0:
            uid = pwd.getpwnam(owner or OWNER).pw_uid if os.getuid() == 0 or owner else os.getuid()
        else:
            uid = there.st_uid
        account = account_of(uid)
    except KeyError as error:
        hint = f"useradd --system --user-group --shell /usr/sbin/nologin {shlex.quote(owner or OWNER)}"
        raise UsageError(f"this host knows no user {owner or OWNER!r} that the spool could belong to", hint) from error
    if uid == 0:
        raise UsageError("a spool of several users cannot belong to root: its head reads everybody's files")
    if os.getuid() not in (0, uid):
        raise UsageError("a spool of several users is made by root, or by the account that it shall belong to")
    return account


def as_account(account: Account | None, make: Callable[[], None]) -> None:
    """Do it as the account: in a child that becomes it, where we are root. SpoolError where that fails."""
    if account is None or os.getuid() == account.uid:
        make()
        return
    from spool_layout.becoming import become
    from spool_layout.errors import SpoolError

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            become(account)
            make()
            code = 0
        except OSError as error:
            click.echo(f"skyspool: {error.filename or ''}: {error.strerror}", err=True)
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SpoolError(
            f"the account {account.uid} could not make the spool", "it must be able to pass every directory above it"
        )


# ---- making it


def make(root: str, name: str | None) -> str:
    """A new spool of one user; its name. UsageError: see free_name."""
    chosen = free_name(root, name)
    make_root(root, None)
    make_inside(root, chosen, "single")
    return chosen


def make_directories(root: str) -> None:
    """All directories of one user's spool that are missing."""
    make_root(root, None)
    make_inside(root, None, "single")


def free_name(root: str, name: str | None) -> str:
    """The spool's name: the directory's where none is given. UsageError where that is none, or another spool's."""
    from skyspool.clusters import good_name
    from spool_layout.errors import UsageError
    from spool_layout.paths import is_cluster_name

    if name is None and not is_cluster_name(os.path.basename(root)):
        raise UsageError(
            f"{os.path.basename(root)!r} is no name for a spool: give it one",
            f"skyspool init {shlex.quote(root)} --name NAME",
        )
    chosen = good_name(os.path.basename(root) if name is None else name)
    must_be_free(chosen, root)
    return chosen


def keep(root: str, name: str | None) -> str:
    """The name of the spool that is there, or the one by which the user wants to call it."""
    from skyspool.clusters import good_name, open_spool

    chosen = good_name(name) if name is not None else open_spool(root).name
    must_be_free(chosen, root)
    return chosen


def make_root(root: str, account: Account | None) -> None:
    """The spool's own directory; given to its account where root makes it."""
    from spool_layout.storage import Disk

    os.makedirs(os.path.dirname(root), exist_ok=True)
    Disk().make_dir(root)
    if account is not None and os.getuid() == 0 and os.stat(root).st_uid != account.uid:
        os.chown(root, account.uid, account.gid, follow_symlinks=False)


def make_inside(root: str, name: str | None, users: str) -> None:
    """All directories that are missing, each with its mode; and spool.yaml. name: of a new spool."""
    from spool_layout import modes, mounts, settings
    from spool_layout.paths import Spool
    from spool_layout.storage import Disk

    spool, disk = Spool(root), Disk()
    for place, mode in modes.wanted(spool, users).items():
        path = os.path.normpath(os.path.join(root, place))
        made = disk.make_dir(path, mode)
        if not made and users == "multi":
            os.chmod(path, mode)  # of a spool that was for one user before
    disk.sync(spool.events)  # for archive/ in it
    disk.sync(spool.root)
    if name is not None:
        mount = mounts.mount_of(root)
        text = settings.first_text(name, mount.network, users, mount.of_one_kernel)
        disk.publish_new(spool.settings, text.encode())


def must_be_free(name: str, root: str) -> None:
    """UsageError where the configuration knows another spool by this name."""
    from skyspool.clusters import configuration
    from spool_layout.errors import UsageError

    place = configuration().clusters.get(name)
    if place is not None and os.path.realpath(place) != os.path.realpath(root):
        raise UsageError(f"{name!r} is already the name of {place}", f"skyspool init {shlex.quote(root)} --name OTHER")


def enter(name: str, root: str) -> None:
    """Add the spool to the user's configuration; the first one becomes the default."""
    from skyspool.clusters import configuration, remember

    config = configuration()
    if config.clusters.get(name) != root or not config.default:
        remember(name, root, default=not config.default)
