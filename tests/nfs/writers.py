"""A user on a machine who drops many task files: by mv, by cp, or by a program that writes them slowly.

    python writers.py SPOOL WAY PREFIX COUNT PROOFS [SEED [SPREAD]]

WAY: mv (written in tmp/, then renamed), cp (written in place, in one go), slow (written in place, in three pieces with
pauses shorter than the settle time, without an end mark), or whole (mv and cp in turn: right even if this machine is
stopped in between, which a slow writer's file is not, where the stop is longer than the settle time). Each job records
in PROOFS that it ran. SEED chooses shares of GPUs and pauses; SPREAD: seconds over which the files come, about.
What it prints: NAME TIME, for each file when it is there, in seconds since 1970.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.history.proof import script

PAUSE = 0.2  # seconds between the pieces of a slow writer
SHARES = (1, 1, 0.5, 0.5, 0.25, 0.25, 2)
NEVER = "/tmp/never"  # a FIFO to which nobody writes (site.py makes it): sleeping without a process of its own
WORKS = (":", ":", f"read -rt 0.1 <>{NEVER}", f"read -rt 0.5 <>{NEVER}")


def task(name: str, proofs: str, chance: random.Random) -> str:
    """A task file's text, without an end mark. JSON is YAML."""
    share = chance.choice(SHARES)
    resources = {"accelerators": f"H100:{share}", "cpus": 0.1}
    return json.dumps({"name": name, "resources": resources, "run": script(proofs, share, chance.choice(WORKS))}) + "\n"


def drop(spool: str, way: str, name: str, text: str) -> None:
    """Put one file into pending/."""
    made, target = f"{spool}/tmp/{name}", f"{spool}/pending/{name}.yaml"
    if way == "mv":
        Path(made).write_text(text + "...\n")
        os.rename(made, target)
    elif way == "cp":
        Path(f"/tmp/{name}").write_text(text + "...\n")
        shutil.copyfile(f"/tmp/{name}", target)
        os.unlink(f"/tmp/{name}")
    else:
        third = len(text) // 3 + 1
        with open(target, "w") as file:
            for start in range(0, len(text), third):
                file.write(text[start : start + third])
                file.flush()
                os.fsync(file.fileno())
                time.sleep(PAUSE)


def main() -> None:
    spool, way, prefix, count, proofs, *rest = sys.argv[1:]
    chance = random.Random(int(rest[0]) if rest else 0)
    spread = float(rest[1]) if len(rest) > 1 else 0.0
    for number in range(int(count)):
        chosen = chance.choice(["mv", "cp"]) if way == "whole" else way
        name = f"{prefix}{number}"
        drop(spool, chosen, name, task(name, proofs, chance))
        print(name, time.time(), flush=True)
        time.sleep(2 * chance.random() * spread / int(count))


if __name__ == "__main__":
    main()
