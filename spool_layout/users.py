"""What users are called. A file says a number; names are for people."""

from __future__ import annotations


def user_name(uid: int) -> str:
    """The name of a user, or the number where this host knows none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
