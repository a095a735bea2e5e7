"""What one user may have: how many jobs may wait, how many requests are carried out in a minute.

The head goes by it (spoold/head/allowance.py), and the client tells the owner of a file that waits for it.
"""

from __future__ import annotations

from collections import Counter

from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.states import Status

MINUTE = 60.0  # seconds


def pending_of(state: State) -> Counter[int]:
    """How many jobs of each user wait, by user ID."""
    return Counter(job.uid for job in state.jobs.values() if job.status is Status.PENDING)


def too_many_pending(state: State, settings: Settings, uid: int) -> str:
    """Why no further file of a user is accepted now, in half a sentence; "" where it is."""
    most = settings.max_pending
    if not most or pending_of(state)[uid] < most:
        return ""
    return (
        f"as many jobs of one user as may are pending already ({most}: max_pending in spool.yaml); "
        "it is accepted when one of them has started or is over"
    )
