"""Measure skyspool beside what people would use instead, and print one table.

    python -m tests.bench [--json FILE] [--only WORDS] [--pairs N] [--seconds N] [--million] [--tools DIR]

WORDS choose groups by what is in their names: throughput, submitting, latency, succession, operations, idle, prompt,
scheduler, restart, growth. Everything happens in a temporary directory on a disk (TMPDIR chooses) with an empty HOME.
As root, what is missing of the others is installed from the distribution; the rest into a venv (--tools keeps it).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.calls import idle, operations
from tests.bench.figures import Figure, say, show, shown
from tests.bench.latency import latency, succession
from tests.bench.million import million
from tests.bench.place import Place, load, machine, place
from tests.bench.prompt import prompt
from tests.bench.restart import restart
from tests.bench.scheduling import growth, scheduler
from tests.bench.throughput import submitting, throughput


def groups(chosen: argparse.Namespace) -> dict[str, Callable[[Place], list[Figure]]]:
    """Every group, in the order of the issue's goals."""
    pairs = chosen.pairs
    told: dict[str, Callable[[Place], list[Figure]]] = {
        "throughput": lambda here: throughput(here, pairs),
        "submitting": lambda here: submitting(here, pairs),
        "latency": lambda here: latency(here, pairs),
        "succession": lambda here: succession(here, pairs),
        "operations": lambda here: operations(here, pairs),
        "idle": lambda here: idle(here, pairs, chosen.seconds),
        "prompt": lambda here: prompt(here, pairs),
        "scheduler": lambda here: scheduler(pairs),
        "restart": lambda here: restart(here, pairs),
        "growth": lambda here: growth(pairs),
    }
    if chosen.million:
        told["million"] = lambda here: million(here, pairs, chosen.finished, chosen.seconds)
    return told


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--only", metavar="WORDS", default="", help="groups in whose names one of these words is")
    parser.add_argument("--pairs", metavar="N", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", metavar="N", type=float, default=60, help="of idleness, twice (default 60)")
    parser.add_argument("--million", action="store_true", help="also with a million jobs finished before")
    parser.add_argument("--finished", metavar="N", type=int, default=1_000_000, help="for --million: another number")
    parser.add_argument("--tools", metavar="DIR", type=Path, help="keep and use the venv of the others there")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    wanted = chosen.only.replace(",", " ").split()
    figures: list[Figure] = []
    with place(chosen.tools) as here:
        heading = f"{machine()}\n{here.file_system}, {load()}; {chosen.pairs} rounds"
        say(heading)
        for name, measure in groups(chosen).items():
            if wanted and not any(word in name for word in wanted):
                continue
            say(f"{name} ...")
            began = time.monotonic()
            try:
                figures += measure(here)
            except Exception as error:
                say(f"  {name} failed: {error!r}")
                figures.append(Figure(name, "", "low", {}, missing={"skyspool": f"failed: {shown(error)}"}))
            say(f"  {time.monotonic() - began:.0f} s")
    print(f"{heading}\n\n{show(figures)}")
    if chosen.json:
        told = {"machine": heading, "at": time.time(), "figures": [figure.plain() for figure in figures]}
        Path(chosen.json).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
