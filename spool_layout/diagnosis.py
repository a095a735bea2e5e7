"""doctor/HOST.json: what `skyspool doctor` found when it measured the spool's file system on a host.

A finding is a line: what was looked at, the verdict, what was seen, and what to change where that helps. The verdicts:

- fine: as the spool needs it.
- slow: all promises hold, but something comes late, costs more than it should, or ends with a reboot.
- unsafe: a promise of spool(5) cannot be kept there; the head refuses to lead.
- left out: it could not be looked at, and why.

What was measured holds for the mount that it was measured on: `applies` asks whether that is still the one. What two
hosts found together is kept over later rounds of one host alone, for as long as the mount is the same.
"""

from typing import Final, Literal

import msgspec

from spool_layout.errors import Damaged
from spool_layout.paths import FORMAT, Spool, is_passing
from spool_layout.storage import Disk

Verdict = Literal["fine", "slow", "unsafe", "left out"]
WARNINGS: Final = ("unsafe", "slow")  # the worst first
PASSING: Final = ("room", "inodes", "users")  # what may be well again by now: no reason to refuse
RECORD_BYTES = 256 * 1024


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. check: what was looked at; text: what was seen; change: what would help, or ""."""

    check: str
    verdict: Verdict
    text: str
    change: str = ""

    @property
    def line(self) -> str:
        """What was seen, and what to change."""
        return f"{self.text}. To do: {self.change}" if self.change else self.text

    @property
    def data(self) -> dict[str, str | None]:
        """As programs are told it."""
        return {"check": self.check, "verdict": self.verdict, "text": self.text, "change": self.change or None}


class Diagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """doctor/HOST.json. at, met_at: by the file server's clock; met: the host that `together` was found with."""

    format: int
    host: str
    at: float
    file_system: str
    source: str
    options: str
    findings: list[Finding] = []
    met: str = ""
    met_at: float = 0.0
    together: list[Finding] = []
    version: str = ""

    @property
    def warnings(self) -> list[Finding]:
        """What is not as it should be, the worst first."""
        found = [*self.findings, *self.together]
        return [finding for verdict in WARNINGS for finding in found if finding.verdict == verdict]

    @property
    def is_unsafe(self) -> bool:
        """Whether any finding is."""
        return any(finding.verdict == "unsafe" for finding in self.warnings)

    @property
    def refusals(self) -> list[Finding]:
        """Why no head should lead there."""
        return [f for f in self.warnings if f.verdict == "unsafe" and f.check not in PASSING]

    def applies(self, file_system: str, source: str, options: str) -> bool:
        """Whether it was measured on this mount as it is now."""
        return (self.file_system, self.source, lasting(self.options)) == (file_system, source, lasting(options))


def lasting(options: str) -> list[str]:
    """The mount options that do not differ from one mount to the next by themselves, as port numbers do."""
    return [word for word in options.split(",") if not word.startswith(("mountport=", "clientaddr=", "port="))]


def of_host(spool: Spool, disk: Disk, host: str) -> Diagnosis | None:
    """What is kept of a host; None: nothing. Damaged where it cannot be read."""
    from spool_layout.records import decode

    path = spool.diagnosis(host)
    try:
        found = decode(disk.inspect(path, RECORD_BYTES).data, Diagnosis, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror}") from error
    if found.format > FORMAT:
        raise Damaged(f"{path}: written by a newer version")
    return found


def kept(spool: Spool, disk: Disk) -> list[Diagnosis]:
    """What is kept of all hosts, by host; what cannot be read is left out."""
    try:
        names = sorted(entry.name for entry in disk.list(spool.doctor))
    except OSError:
        return []
    hosts = [name.removesuffix(".json") for name in names if name.endswith(".json") and not is_passing(name)]
    return [found for host in hosts if (found := _readable(spool, disk, host)) is not None]


def _readable(spool: Spool, disk: Disk, host: str) -> Diagnosis | None:
    try:
        return of_host(spool, disk, host)
    except Damaged:
        return None


def keep(spool: Spool, disk: Disk, diagnosis: Diagnosis) -> None:
    """Put it in place of what was found before. OSError where that may not be written."""
    from spool_layout.records import encode

    disk.make_dir(spool.doctor)
    disk.publish(spool.diagnosis(diagnosis.host), encode(diagnosis))
