"""The ender: a fork of the starter that ends one of several users' attempts, since the runner may not signal others.

    KEY end GRACE      a line in the FIFO `orders`, repeated by the runner until `gone` (and `swept`) show

It does what the runner does by itself where all is one user's (cleaning.py): SIGTERM, SIGKILL after the grace time, the
containers as the job's owner, until nothing is left. Several at once do no harm; one that is killed is forked again.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from typing import NoReturn

from spoold.node import progress
from spoold.node.containers import stop_all
from spoold.node.owner import become_owner, forget_login
from spoold.node.workplace import Attempt, Workplace, ring

LOOK = 0.05  # seconds between two looks at what is left
TROUBLE = "containers of it may still run: their engine did not answer"


def end(place: Workplace, key: str, grace: float, bell: int) -> None:
    """End what is left of an attempt; then `gone`, and where it called container engines `swept`, are there."""
    attempt = place.attempt(key)
    order = attempt.read("order.json") or {}
    try:
        _end(place, attempt, grace)
    except FileNotFoundError:
        pass  # it was over, and is forgotten
    ring(bell, key)
    if order.get("login"):  # its supervisor may have been killed before it could
        forget_login(attempt, order)


def _end(place: Workplace, attempt: Attempt, grace: float) -> None:
    ending, first = progress.Ending(grace), 0
    while not ending.step(attempt):
        if attempt.calls_engines() and not first:
            first = sweep(place, attempt, grace)  # gives containers their grace time meanwhile
        time.sleep(LOOK)
    if first:
        os.waitpid(first, 0)
    if attempt.calls_engines() and not attempt.has("swept"):
        failed = os.waitpid(sweep(place, attempt, grace), 0)[1]
        attempt.write("swept", {"reason": TROUBLE if failed else ""})
    if not progress.is_gone(attempt):
        attempt.write("gone", {"at": time.time()})
    progress.group(attempt).remove()


def sweep(place: Workplace, attempt: Attempt, grace: float) -> int:
    """Stop its containers in a child that becomes its owner. The child's pid; it ends with 0 if all have stopped."""
    pid = os.fork()
    if pid == 0:
        _sweep(os.path.basename(os.path.dirname(place.path)), attempt, grace)
    return pid


def _sweep(spool_id: str, attempt: Attempt, grace: float) -> NoReturn:
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        become_owner(attempt.read("order.json") or {})
        code = 0 if stop_all(attempt.key, spool_id, grace, attempt.path) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
