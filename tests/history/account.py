"""The events of a spool as bookkeeping: which of them count, and whether they fit each other.

Written from spool(5) alone; nothing of the project is imported, so that a fault in its own replay cannot hide here.
An event file is made of lines `JSON CRC`; the first record of epoch N seals all earlier files, each at a length.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]
WHOLE = 1000  # thousandths of a GPU
OVER = ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED")


def records(data: bytes) -> tuple[list[Record], list[int]]:
    """The whole records at the beginning of a file, and where each ends, in bytes."""
    found: list[Record] = []
    ends: list[int] = []
    position = 0
    while (newline := data.find(b"\n", position)) >= 0:
        text, _, check = data[position:newline].rpartition(b" ")
        if f"{zlib.crc32(text):08x}".encode() != check:
            break
        position = newline + 1
        found.append(json.loads(text))
        ends.append(position)
    return found, ends


def what_counts(files: Mapping[int, bytes]) -> tuple[list[Record], list[str]]:
    """All records that count, in order, and what is wrong with the epochs: they must not interleave.

    That they do not means: each file holds one head's records, which begins with its seal of what was before; every
    seal ends at a record; and no later seal moves an earlier one, so that nothing is written into what is past.
    """
    faults: list[str] = []
    seals: dict[int, int] = {}
    newest = 0
    for epoch in sorted(files, reverse=True):
        if seals.get(epoch) == 0 or not (first := first_seal(files[epoch], epoch, faults)):
            continue  # it holds nothing, or came too late: what it says of others does not count either
        newest = max(newest, epoch)
        for earlier, length in first["seals"].items():
            if int(earlier) >= epoch:
                faults.append(f"epoch {epoch} seals {earlier}, which does not precede it")
            if seals.setdefault(int(earlier), length) != length:
                faults.append(f"epoch {epoch} seals {earlier} at {length}, a later one at {seals[int(earlier)]}")
    counted: list[Record] = []
    for epoch in sorted(files):
        if epoch < newest and epoch not in seals:
            faults.append(f"epoch {epoch} was never sealed")
        told, ends = records(files[epoch])
        length = seals.get(epoch, ends[-1] if ends else 0)
        if length and length not in ends:
            faults.append(f"epoch {epoch} is sealed at {length}, where no whole record ends")
        counted += [record for record, end in zip(told, ends, strict=True) if end <= length]
    return counted, faults


def first_seal(data: bytes, epoch: int, faults: list[str]) -> Record:
    """A file's first record; empty where that is not whole: then the file holds nothing."""
    told, _ = records(data)
    if not told:
        return {}
    if told[0]["event"] != "sealed" or told[0]["epoch"] != epoch:
        faults.append(f"{epoch}.jsonl begins with {told[0]}")
        return {}
    if others := [r for r in told[1:] if r["event"] == "sealed"]:
        faults.append(f"{epoch}.jsonl holds more than one seal: {others}")
    return told[0]


class Account:
    """The books, kept record by record. faults: what does not fit."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.accepted: dict[int, Record] = {}
        self.over: dict[int, str] = {}  # ID -> status
        self.running: dict[int, int] = {}  # ID -> attempt
        self.attempts: dict[tuple[int, int], Record] = {}  # every start, by (ID, attempt)
        self.holds: dict[tuple[int, int, str], dict[str, int]] = {}  # (ID, attempt, node) -> GPU -> thousandths

    def take(self, told: list[Record]) -> None:
        """Enter records in their order."""
        for record in told:
            if enter := getattr(self, f"_{record['event']}", None):
                enter(record)

    def _fault(self, text: str, record: Record) -> None:
        self.faults.append(f"{text}: {record}")

    def _accepted(self, r: Record) -> None:
        if self.accepted and r["id"] <= max(self.accepted):
            self._fault("an ID was given before, or out of order", r)
        self.accepted[r["id"]] = r

    def _started(self, r: Record) -> None:
        job, attempt = r["id"], r["attempt"]
        if job not in self.accepted or job in self.over or job in self.running:
            self._fault("starts what does not wait", r)
        if attempt != 1 + max((a for j, a in self.attempts if j == job), default=0):
            self._fault("an attempt was counted twice or left out", r)
        self.attempts[job, attempt], self.running[job] = r, attempt
        for allocation in r["allocations"]:
            self.holds[job, attempt, allocation["node"]] = dict(allocation.get("gpus", {}))
        self._weigh(r)

    def _weigh(self, r: Record) -> None:
        weight: Counter[str] = Counter()
        for held in self.holds.values():
            weight.update(held)
        for gpu in [gpu for a in r["allocations"] for gpu in a.get("gpus", {})]:
            if weight[gpu] > WHOLE:
                self._fault(f"{gpu} is given out {weight[gpu]} thousandths", r)

    def _leave(self, r: Record, but: tuple[str, ...] = ()) -> None:
        if self.running.pop(r["id"], None) != r["attempt"]:
            self._fault("ends an attempt that does not run", r)
        for job, attempt, node in list(self.holds):
            if (job, attempt) == (r["id"], r["attempt"]) and node not in but:
                del self.holds[job, attempt, node]

    def _end(self, r: Record, status: str) -> None:
        if r["id"] in self.over or r["id"] not in self.accepted or status not in OVER:
            self._fault("ends what cannot end so", r)
        self.over[r["id"]] = status

    def _returned(self, r: Record) -> None:
        self._leave(r)

    def _lost(self, r: Record) -> None:
        self._leave(r, tuple(r["nodes"]))
        if not r["again"]:
            self._end(r, r.get("status", "FAILED"))

    def _gone(self, r: Record) -> None:
        self.holds.pop((r["id"], r["attempt"], r["node"]), None)

    def _ended(self, r: Record) -> None:
        if r["id"] in self.running:
            self._leave(r)
        self._end(r, r["status"])

    def close(self) -> None:
        """The history is said to be complete: then nothing may be left open."""
        self.faults += [f"job {job} was accepted and never ended" for job in self.accepted if job not in self.over]
