"""skyspool: the command. What is typed all day is read without click (shortcut.py), all else by it (commandline.py).

What goes wrong is told on stderr in up to three parts: what, where, and a `hint:` with a command that can be run.
Exit codes: those of the verb; 2 for a command line that cannot be read; 130 after Ctrl-C; else the error's own
(spool_layout/errors.py).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from skyspool import shortcut
from spool_layout.errors import SpoolError

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
OBJECTS = 100_000  # more of them than before, and what refers to itself alone is looked for: for `logs -f` and the like
BROKEN_PIPE = 141  # 128 + SIGPIPE


def tell(error: SpoolError) -> None:
    """An error as people read it, on stderr."""
    from skyspool.say import hint, note

    note(f"error: {error.message}")
    if error.hint:
        hint(error.hint)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = list(sys.argv[1:] if args is None else args)
    try:
        code = _carry_out(words)
        sys.stdout.flush()
        return code
    except SpoolError as error:
        tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        from skyspool.say import note

        note("")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return BROKEN_PIPE
    except OSError as error:
        from skyspool.say import note

        where = f"{error.filename}: " if error.filename else ""
        note(f"error: {where}{error.strerror or error}")
        return 1


def _carry_out(words: list[str]) -> int:
    read = shortcut.read(words)
    if read is None:
        from skyspool.commandline import carry_out

        return carry_out(words)
    verb, values = read
    if verb != "queue":
        from skyspool.submitting import submit

        return submit(verb, words[1:], values)
    from skyspool.queueing import show

    show(**values)
    return 0


def run() -> NoReturn:
    """Be the command `skyspool`: a short life. What it made is not cleaned up one by one, neither on the way (a tenth
    of the time of `queue`) nor at the end (another tenth): the system takes it all."""
    gc.set_threshold(OBJECTS)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of what was told before an error, to somebody who is gone or a disk that is full
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
