"""Times and durations as people read them, in the words of `sky queue`.

`10 mins ago` is what SkyPilot prints (sky/utils/log_utils.py: readable_time_duration, over pendulum's phrases), and
`1h 1m 40s` how it prints durations.
"""

from __future__ import annotations

import functools
import time

_STEPS = ((365 * 86400, "yr"), (30 * 86400, "month"), (7 * 86400, "week"), (86400, "day"), (3600, "hr"), (60, "min"))
_PARTS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
FEW = 10  # seconds that are "a few"


def ago(moment: float | None, now: float) -> str:
    """`10 mins ago`; `-` for never."""
    if moment is None:
        return "-"
    seconds = max(0, int(now - moment))
    if seconds < FEW:
        return "a few secs ago"
    for size, word in _STEPS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return f"{seconds} secs ago"


def lasted(moment: float | None, now: float) -> str:
    """`10 mins`: how long something has been so; `-` for never."""
    return ago(moment, now).removesuffix(" ago")


_SHORT = {
    "secs": "s",
    "min": "m",
    "mins": "m",
    "hr": "h",
    "hrs": "h",
    "day": "d",
    "days": "d",
    "week": "w",
    "weeks": "w",
    "month": "mo",
    "months": "mo",
    "yr": "y",
    "yrs": "y",
}


def shorter(text: str) -> str:
    """`10m ago` of `10 mins ago`, for narrow terminals."""
    words = text.split(" ")
    if len(words) == 3 and words[1] in _SHORT:
        return f"{words[0]}{_SHORT[words[1]]} ago"
    return "just now" if text == "a few secs ago" else text


def duration(seconds: float) -> str:
    """`1h 1m 40s`; `0s` for less than one."""
    left, words = max(0, int(seconds)), []
    for size, unit in _PARTS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words) or "0s"


def clock(moment: float) -> str:
    """Local time of day, with the date where it is not today's."""
    there, here = time.localtime(moment), time.localtime()
    return time.strftime("%H:%M:%S" if there[:3] == here[:3] else "%Y-%m-%d %H:%M:%S", there)


def iso(moment: float | None) -> str | None:
    """ISO 8601, UTC, to the millisecond."""
    if moment is None:
        return None
    minute, seconds = divmod(moment, 60)
    digits = f"{int(1000 * seconds):05}"  # cut off; a third faster than to format seconds and thousandths apart
    return f"{_minute(minute)}{digits[:2]}.{digits[2:]}Z"


@functools.lru_cache(4096)
def _minute(number: float) -> str:
    """`2026-11-24T13:26:`. Kept: many jobs begin and end in the same minutes."""
    return time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(60 * number))


def parse(text: str) -> float:
    """Seconds of `30d`, `12h`, `10m`. BadSettings for anything else."""
    from spool_layout.settings import parse_duration

    return parse_duration(text, "duration")
