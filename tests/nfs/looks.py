"""A head or a runner that tells each of its looks at the spool: `python -m tests.nfs.looks head|node ROOT …`.

It writes lines to its standard output, TIME in seconds since 1970:

    TIME look          a look begins: a tick of a head, or a runner asks the file server
    TIME took ID       this look found the job ID: the head accepted it, the runner ordered its start
    TIME sleep PAUSE   the look is over; until the next one, so many seconds may pass

`Story` reads them. How many looks and how long pauses lie between two moments is the same on a slow machine.
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from spool_layout.events import Accepted
from spoold.head.loop import Head
from spoold.head.term import Term
from spoold.node.runner import Runner

CLOCKS = 0.05  # seconds to which it is known how the clocks of two machines differ


class Told(NamedTuple):
    """One line. at: by this host's clock."""

    at: float
    word: str
    rest: str


class Story:
    """What one daemon said. ahead: seconds by which its machine's clock is ahead of this host's."""

    def __init__(self, text: str, ahead: float) -> None:
        lines = [line.split(" ", 2) for line in text.rpartition("\n")[0].splitlines()]
        self.told = [Told(float(words[0]) - ahead, words[1], words[2] if words[2:] else "") for words in lines]

    def took(self, job: int) -> int:
        """The line that says that it found this job."""
        return next(number for number, told in enumerate(self.told) if told[1:] == ("took", str(job)))

    def over(self, job: int) -> float:
        """When the look that found it was over."""
        return next(told.at for told in self.told[self.took(job) :] if told.word == "sleep")

    def looks(self, since: float, job: int) -> int:
        """How many looks began since then, up to the one that found the job; 0: one that went on was in time."""
        return sum(told.word == "look" and told.at >= since + CLOCKS for told in self.told[: self.took(job)])

    def pauses(self) -> list[float]:
        """Seconds of all pauses."""
        return [float(told.rest) for told in self.told if told.word == "sleep"]


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, (time.time(), *words)))}\n".encode())


def tell_head() -> None:
    tick, commit, pause = Term.tick, Term.commit, Head.pause

    def told_tick(self: Term, *rest: bool) -> bool:
        say("look")
        return tick(self, *rest)

    def told_commit(self: Term, events: list[Any]) -> None:
        commit(self, events)
        for event in events:
            if isinstance(event, Accepted):
                say("took", event.id)

    def told_pause(self: Head, *rest: Any) -> float:
        seconds = pause(self, *rest)
        say("sleep", seconds)
        return seconds

    Term.tick, Term.commit, Head.pause = told_tick, told_commit, told_pause  # type: ignore[method-assign]


def tell_runner() -> None:
    is_to_look, begin, sleep = Runner._is_to_look, Runner.begin, Runner.sleep

    def told_is_to_look(self: Runner) -> bool:
        due = is_to_look(self)
        if due:
            say("look")
        return due

    def told_begin(self: Runner, key: str, assignment: Any) -> None:
        begin(self, key, assignment)
        say("took", assignment.id)

    def told_sleep(self: Runner, seconds: float) -> None:
        say("sleep", max(seconds, self.look_at - time.monotonic()))  # what wakes it sooner may be no look
        sleep(self, seconds)

    Runner._is_to_look, Runner.begin, Runner.sleep = told_is_to_look, told_begin, told_sleep  # type: ignore[method-assign]


if __name__ == "__main__":
    from spoold.__main__ import main

    tell_head()
    tell_runner()
    main(prog_name="spoold")
