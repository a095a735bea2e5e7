"""doctor: measure what a spool relies on, on this host alone or with another one; exit code 1 where it is unsafe."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from spool_layout.errors import UsageError

if TYPE_CHECKING:
    from skyspool.doctor.examination import Place


@click.command("doctor")
@click.argument("directory", metavar="DIR")
@click.option("--with", "host", metavar="HOST", help="Measure with this host too; says what to type there.")
@click.option("--meet", "word", metavar="WORD", help="Meet the doctor that waits on another host.")
@click.option(
    "--patience",
    type=click.FloatRange(0.1, 3000),
    default=300,
    metavar="SECONDS",
    help="How long to wait for the other host (default: 300).",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def command(directory: str, host: str | None, word: str | None, patience: float, output: str) -> int:
    """Measure whether DIR, a spool or where one shall be made, can hold one."""
    from skyspool.doctor import examination, telling
    from skyspool.say import note, show_json
    from spool_layout.storage import Disk

    if host is not None and word is not None:
        raise UsageError("--with invites and --meet comes: one of them on each host", "skyspool doctor --help")
    where, disk = examination.place(directory), Disk()
    with ended_cleanly():
        done = examination.examine(where, examination.Wanted(host, word, patience), disk, note)
    found, kept = examination.keep(where, done.found, disk)
    if output == "json":
        show_json(telling.data(found, where.root, kept))
    else:
        telling.show(found, where.root)
        note(_kept(where, kept))
    if done.trouble:
        raise done.trouble
    return 1 if found.is_unsafe else 0


def _kept(where: Place, kept: str | None) -> str:
    if kept:
        return f"note: kept in {kept}, where the head and `skyspool status` look"
    return f"note: not kept: {'may not be written there' if where.spool else 'there is no spool yet'}"


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as they do by default, but with all that was made taken away first."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
