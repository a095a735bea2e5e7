"""Who is who: what users are called, and whom a spool serves. A file says a number; names are for people.

`single`: head and runners are one user, whose files are taken, and those of whom `allow:` names. `multi`: everybody's
files are taken (or only those of `allow:`) and their jobs run as them; never root's, a system account's or the own
account's, since nobody should become these by a file. Root, the account and `admins:` may cancel what is not theirs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spool_layout.settings import Settings

FIRST_USER = 1000  # where /etc/login.defs says no UID_MIN
NOBODIES = frozenset({65534, 65535, 2**32 - 2, 2**32 - 1})  # whom root and strangers become; "no change" to setresuid


def user_name(uid: int) -> str:
    """The name of a user, or the number where this host knows none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.cache
def first_user() -> int:
    """The lowest user ID of a person, by /etc/login.defs; lower ones are root and system accounts."""
    try:
        with open("/etc/login.defs", encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file if line.startswith("UID_MIN")]
        return int(words[-1][1]) if words else FIRST_USER
    except (OSError, ValueError, IndexError):
        return FIRST_USER


def is_system(uid: int) -> bool:
    """Whether a user ID is root's, a system account's or nobody's."""
    return uid < first_user() or uid in NOBODIES


class Users(NamedTuple):
    """Whom a spool serves. account: whom head and runners run as; allowed: see `allow:`; admins: without root."""

    multi: bool
    account: int
    allowed: frozenset[int] = frozenset()
    admins: frozenset[int] = frozenset()

    def objection(self, uid: int) -> str:
        """Why a user's files are not taken, as the end of "belongs to NAME, "; "" where they are."""
        if not self.multi:
            return "" if uid == self.account or uid in self.allowed else self._others()
        if uid == self.account:
            return "the spool's own account: nobody's jobs run as that"
        if is_system(uid):
            return "root or a system account: nobody's jobs run as that (users: multi)"
        return "" if not self.allowed or uid in self.allowed else "whom `allow:` in spool.yaml does not name"

    def _others(self) -> str:
        also = ", ".join(["", *map(user_name, sorted(self.allowed))])
        return (
            f"this spool serves {user_name(self.account)}{also}: "
            "head and runners take only the files of the user whom they run as, and of whom `allow:` names"
        )

    def is_admin(self, uid: int) -> bool:
        """Whether a user may do to others' jobs what owners may."""
        return uid in (0, self.account) or uid in self.admins


def of_settings(settings: Settings, account: int) -> Users:
    """The users of a spool, names looked up on this host. BadSettings for one that it does not know."""
    return Users(
        settings.users == "multi",
        account,
        frozenset(_ids(settings.allow, "allow")),
        frozenset(_ids(settings.admins, "admins")),
    )


def _ids(words: Iterable[str | int], key: str) -> Iterable[int]:
    import pwd

    from spool_layout.errors import BadSettings

    for word in words:
        if isinstance(word, int):
            yield word
            continue
        try:
            yield pwd.getpwnam(word).pw_uid
        except KeyError as error:
            raise BadSettings(
                f"spool.yaml: {key}: this host knows no user {word!r}", f"getent passwd {word}      # or write a number"
            ) from error
