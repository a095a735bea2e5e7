"""Why a job's commands cannot begin here."""

from __future__ import annotations


class Unfit(Exception):
    """Told in the job's log, and in the reason of its end."""
