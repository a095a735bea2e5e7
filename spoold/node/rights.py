"""The rights of a process that starts several users' jobs: root's, laid down, and taken up only where they are needed.

In `multi` the starter and what it forks have root's real and saved user ID and the effective one of the spool's own
account. So every file is opened with that account's rights, whatever path somebody made up, and root's rights are there
only inside `raised`: to signal a job's processes, to look into them, to make a cgroup, to turn into a job's owner. In
`single`, and in the runner, which gave root up for good, `raised` does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from spool_layout.becoming import Account


class Post(NamedTuple):
    """What a starter of several users' jobs was told by who started it: whose rights it has, and for which spool."""

    account: Account
    spool: str


_posts: list[Post] = []


def lay_down(post: Post) -> None:
    """As root: go on with the account's rights."""
    _posts[:] = [post]
    os.setgroups(post.account.groups)
    os.setegid(post.account.gid)
    os.seteuid(post.account.uid)


def post() -> Post:
    """What was laid down for. Only where `may_raise`."""
    return _posts[0]


def may_raise() -> bool:
    """Whether this process laid root's rights down and may take them up again."""
    return os.getresuid()[2] == 0 and os.geteuid() != 0


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Root's rights for what is done inside, if this process may have them. Nothing in there opens a user's path."""
    if not may_raise():
        yield
        return
    account = os.geteuid()
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(account)


@contextlib.contextmanager
def acting_as(uid: int, gid: int, groups: tuple[int, ...]) -> Iterator[None]:
    """With a user's rights over files for what is done inside: fixed steps of ours, nothing of that user's."""
    account = post().account
    _act(uid, gid, groups)
    try:
        yield
    finally:
        _act(account.uid, account.gid, account.groups)


def _act(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
