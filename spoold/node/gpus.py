"""Stub until the real one lands."""

from __future__ import annotations

import uuid

from spool_layout.records import Gpu


def detect() -> list[Gpu]:
    return []


def parse_spec(spec: str, node: str) -> list[Gpu]:
    found = []
    if spec == "none":
        return []
    for part in spec.split(","):
        n, _, c = part.partition(":")
        for _i in range(int(c or 1)):
            found.append(Gpu("GPU-" + str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{n}/{len(found)}")), len(found), n))
    return found
