"""How many calls a client made to the file server, by kind, from /proc/self/mountstats."""

from __future__ import annotations

from collections import Counter

from tests.nfs.bench import MOUNT, Bench


def parse(text: str, mount: str = MOUNT) -> Counter[str]:
    """Operation -> calls so far, of the mount at that point. LookupError if nothing is mounted there."""
    _, found, rest = text.partition(f" mounted on {mount} with fstype nfs")
    if not found:
        raise LookupError(f"no NFS at {mount}")
    lines = rest.partition("\ndevice ")[0].partition("per-op statistics")[2].splitlines()
    fields = [line.split() for line in lines if ":" in line]
    return Counter({words[0].rstrip(":"): int(words[1]) for words in fields if int(words[1])})


def calls(bench: Bench, client: str) -> Counter[str]:
    """Operation -> calls that a client made since it mounted. The look itself costs none."""
    return parse(bench.run(client, "cat", "/proc/self/mountstats"))


def table(counted: Counter[str], seconds: float) -> str:
    """Calls by operation, most frequent first, in all and a second."""
    lines = [f"  {operation:<22}{count:>7}{count / seconds:>8.2f}/s" for operation, count in counted.most_common()]
    return "\n".join([*lines, f"  {'in all':<22}{counted.total():>7}{counted.total() / seconds:>8.2f}/s"])
