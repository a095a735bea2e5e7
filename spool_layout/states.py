"""The states of a job, as a closed type, and which may follow which, as a table.

The words are SkyPilot's own, so that scripts which read `sky queue` read `skyspool queue`. The diagram in
spool(5) is made from TRANSITIONS; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """What `queue` prints."""

    PENDING = "PENDING"  # accepted; waits for slots
    SETTING_UP = "SETTING_UP"  # has its slots; setup commands run
    RUNNING = "RUNNING"  # run commands run
    SUCCEEDED = "SUCCEEDED"  # every rank ended with 0
    FAILED = "FAILED"  # a rank ended with another code, or its node was lost
    FAILED_SETUP = "FAILED_SETUP"  # setup ended with another code than 0, or workdir was not there
    FAILED_DRIVER = "FAILED_DRIVER"  # the system's own fault: the outcome is unknown
    CANCELLED = "CANCELLED"  # its owner (or an admin) ended it, or deleted its waiting file


LIVE: Final = frozenset({Status.PENDING, Status.SETTING_UP, Status.RUNNING})
ENDED: Final = frozenset(Status) - LIVE

# from -> {to: what brings it about}
TRANSITIONS: Final[dict[Status, dict[Status, str]]] = {
    Status.PENDING: {
        Status.SETTING_UP: "slots granted; the task has setup commands",
        Status.RUNNING: "slots granted",
        Status.CANCELLED: "cancelled, or its file deleted",
        Status.FAILED: "no node could ever serve it",
    },
    Status.SETTING_UP: {
        Status.RUNNING: "setup ended with 0 on every node",
        Status.SUCCEEDED: "there are no run commands",
        Status.FAILED_SETUP: "setup failed",
        Status.FAILED: "its node was lost",
        Status.FAILED_DRIVER: "the outcome is unknown",
        Status.CANCELLED: "cancelled",
        Status.PENDING: "put back: never started, changed while claimed, or asked to run again elsewhere",
    },
    Status.RUNNING: {
        Status.SUCCEEDED: "every rank ended with 0",
        Status.FAILED: "a rank failed, or its node was lost",
        Status.FAILED_SETUP: "its working directory is not there",
        Status.FAILED_DRIVER: "the outcome is unknown",
        Status.CANCELLED: "cancelled",
        Status.PENDING: "put back: never started, changed while claimed, or asked to run again elsewhere",
    },
}

# sky.exceptions.JobExitCode, SkyPilot 0.14.1: what `logs`, `exec` and `logs --status` end with.
EXIT_CODES: Final[dict[Status, int]] = {
    Status.SUCCEEDED: 0,
    Status.FAILED: 100,
    Status.FAILED_SETUP: 100,
    Status.FAILED_DRIVER: 100,
    Status.PENDING: 101,
    Status.SETTING_UP: 101,
    Status.RUNNING: 101,
    Status.CANCELLED: 103,
}
EXIT_NOT_FOUND: Final = 102


def may_follow(old: Status, new: Status) -> bool:
    """Whether a job in state `old` may come into state `new` by one event."""
    return new in TRANSITIONS.get(old, {})
