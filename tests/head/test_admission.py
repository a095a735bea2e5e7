"""A head leads on no mount that is unsafe, unless it is told to."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from spool_layout import diagnosis, mounts, settings
from spool_layout.diagnosis import Diagnosis, Finding
from spool_layout.mounts import Mount
from spool_layout.paths import Spool
from spool_layout.storage import Disk

UNSAFE = Finding("link", "unsafe", "EPERM, operation not permitted", "use another file system")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool without daemons."""
    made = Spool(tmp_path / "spool")
    for path in made.directories:
        Disk().make_dir(path)
    Disk().publish(made.settings, settings.first_text("lab", False).encode())
    return made


def once(spool: Spool, *words: str) -> tuple[int, str]:
    """Exit code and stderr of `spoold head --once`."""
    command = [sys.executable, "-m", "spoold", "head", spool.root, "--once", "--state", f"{spool.root}.state", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stderr


def found(spool: Spool, *findings: Finding) -> Diagnosis:
    """What a doctor would keep of this host, here."""
    kind, options, source, _ = mounts.mount_of(spool.root)
    return Diagnosis(1, socket.gethostname(), 1.0, kind, source, options, list(findings))


def test_it_refuses_what_was_found_unsafe_on_this_host(spool: Spool) -> None:
    diagnosis.keep(spool, Disk(), found(spool, UNSAFE))
    assert once(spool) == (
        78,
        f"spoold: {spool.root} is unsafe (link): EPERM, operation not permitted. To do: use another file system\n"
        f"hint: skyspool doctor {spool.root}      # when that is done; spoold head --force leads all the same\n",
    )
    assert Disk().list(spool.events) == [entry for entry in Disk().list(spool.events) if entry.name == "archive"]


def test_force_overrules_with_a_warning(spool: Spool) -> None:
    diagnosis.keep(spool, Disk(), replace(found(spool), together=[UNSAFE]))
    code, told = once(spool, "--force")
    assert code == 0
    assert " W leads all the same (--force): link: EPERM, operation not permitted. To do: " in told
    assert "1.jsonl" in [entry.name for entry in Disk().list(spool.events)]


@pytest.mark.parametrize("other", ["host", "mount", "passing", "slow", "damaged"])
def test_it_leads_where_that_says_nothing_against_it(spool: Spool, other: str) -> None:
    kept = {
        "host": replace(found(spool, UNSAFE), host="elsewhere"),
        "mount": replace(found(spool, UNSAFE), source="another:/export"),
        "passing": found(spool, Finding("room", "unsafe", "no room", "make some")),
        "slow": found(spool, Finding("clock", "slow", "30.0 s behind")),
        "damaged": found(spool),
    }[other]
    diagnosis.keep(spool, Disk(), kept)
    if other == "damaged":
        Path(spool.diagnosis(socket.gethostname())).write_text("{")
    code, told = once(spool)
    assert code == 0
    assert ("what the doctor found on this host cannot be read" in told) == (other == "damaged")


def test_options_that_are_unsafe_now_count_without_a_doctor(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mount with `soft` is to be had here; the lane's machines have one."""
    from spool_layout.errors import UnsafeMount
    from spoold.head.admission import admit

    admit(spool, Disk(), force=False)
    monkeypatch.setattr(mounts, "mount_of", lambda path: Mount("nfs4", "rw,vers=4.2,soft", "server:/", path))
    with pytest.raises(UnsafeMount, match=r"is unsafe \(mount\): soft: ") as refused:
        admit(spool, Disk(), force=False)
    assert refused.value.exit_code == 78
    admit(spool, Disk(), force=True)
