"""Errors that a person reads: each knows its message, its exit code, whose fault it is, and what to do next."""

from __future__ import annotations

# sysexits.h, BSD 4.3: the codes that scripts and service managers know.
EXIT_USAGE = 2  # click's own code for a wrong command line
EXIT_CONFIG = 78  # EX_CONFIG: a spool or setting that this program cannot work with
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE: the share is not mounted, another runner holds the name
EXIT_DATA = 65  # EX_DATAERR: what the system wrote itself is damaged; trying again does not help
EXIT_IO = 74  # EX_IOERR: the file system said so


class SpoolError(Exception):
    """Something that went wrong and is told to a person in full.

    message: what, and where. hint: a command or a change that helps, or "".
    """

    exit_code = 1
    fault = "system"  # whose: "user" (what they typed or dropped), "admin" (settings, mounts), "system"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SpoolError):
    """What was typed cannot be done as typed."""

    exit_code = EXIT_USAGE
    fault = "user"


class NotASpool(SpoolError):
    """The directory holds no spool, or its share is not mounted (promise P11)."""

    exit_code = EXIT_UNAVAILABLE
    fault = "admin"


class NewerFormat(SpoolError):
    """The spool was written by a newer version; nothing was changed (promise P10)."""

    exit_code = EXIT_CONFIG
    fault = "admin"


class BadSettings(SpoolError):
    """spool.yaml or config.yaml says something that cannot be."""

    exit_code = EXIT_CONFIG
    fault = "admin"


class UnsafeMount(SpoolError):
    """The file system under a spool, or how it is mounted, breaks what the spool promises."""

    exit_code = EXIT_CONFIG
    fault = "admin"


class Damaged(SpoolError):
    """A record that this system wrote itself cannot be read back. Unknown is not absent (promise P10)."""

    exit_code = EXIT_DATA


class Full(SpoolError):
    """The spool has no room for new jobs: its disk or somebody's quota is full."""

    exit_code = EXIT_IO
    fault = "admin"


class Taken(SpoolError):
    """A name (node, epoch) belongs to somebody else who is alive."""

    exit_code = EXIT_UNAVAILABLE
    fault = "admin"


class Deposed(SpoolError):
    """A newer head leads; this one has to stop writing at once."""
