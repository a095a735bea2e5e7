"""The catalogue fits the code, the table fits the catalogue, and no safeguard is without a mutant."""

from __future__ import annotations

from collections import Counter

from tests.mutants.catalogue import GROUPS, MUTANTS
from tests.mutants.run import SURVIVED, rows
from tests.mutants.scan import ROOT, lines_of, safeguards

# Found by the scan, and no safeguard of the protocol: (file, text) -> why.
NO_SAFEGUARD = {
    ("skyspool/doctor/probes.py", "os.fsync(descriptor)"): "is timed, for what it tells of the server",
    ("skyspool/doctor/probes.py", "disk.sync(folder)"): "is timed, for what it tells of the server",
    ("spoold/head/keeping.py", "self.epoch.offset - self.offset >= BYTES"): "how much was written, not by whom",
    ("spoold/head/project.py", "job.file in self._names(self.epoch.claims)"): "which files are there, not whose",
    ("spoold/node/runner.py", "found.version != self.read_version"): "tells once what is refused",
    ("spoold/node/runner.py", "self.read_version != self.seen"): "whose names are told; nothing is decided by it",
    ("spoold/restored.py", "epoch in history.epochs(spool, disk)"): "whether there is a file that may be shorter",
}


def test_what_a_mutant_takes_away_stands_once_in_the_code() -> None:
    found = {m.name: (ROOT / m.file).read_text(encoding="utf-8").count(m.old) for m in MUTANTS}
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_each_mutant_has_a_name_of_its_own_changes_something_and_asks_somebody() -> None:
    assert [name for name, count in Counter(m.name for m in MUTANTS).items() if count > 1] == []
    assert [m.name for m in MUTANTS if m.old == m.new or not m.tests] == []
    assert {m.group for m in MUTANTS} == set(GROUPS)


def test_no_safeguard_is_without_a_mutant() -> None:
    taken: dict[str, set[int]] = {}
    for mutant in MUTANTS:
        taken.setdefault(mutant.file, set()).update(lines_of(mutant.file, mutant.old))
    found = list(safeguards())
    missing = [s for s in found if not set(range(s.first, s.last + 1)) <= taken.get(s.file, set())]
    assert [s for s in missing if (s.file, s.text) not in NO_SAFEGUARD] == []
    assert set(NO_SAFEGUARD) <= {(s.file, s.text) for s in missing}, "what is no safeguard is not there any more"


def test_the_table_tells_of_each_mutant_and_none_survived() -> None:
    told = rows()
    assert list(told) == [mutant.name for mutant in MUTANTS], "make mutants"
    assert [name for name, lines in told.items() if SURVIVED in lines] == []


def test_the_tests_that_the_table_names_are_there() -> None:
    killers = [lines.split("\n")[0].split(" s  ", 1)[1] for lines in rows().values()]
    for killer in killers:
        file, _, test = killer.split(" (")[0].partition("::")
        name = test.split("[")[0]
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), killer
