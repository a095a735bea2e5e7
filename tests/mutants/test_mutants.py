"""The catalogue fits the code, the table fits the catalogue, and no safeguard is without a mutant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants import run
from tests.mutants.catalogue import GROUPS, MUTANTS, Mutant
from tests.mutants.run import SURVIVED, Verdict, killers_of, rows, tells
from tests.mutants.scan import ROOT, lines_of, safeguards

# Found by the scan, and no safeguard of the protocol: (file, text) -> why.
NO_SAFEGUARD = {
    ("skyspool/heads.py", "now - leaders[-1].seen > SILENT"): "when a head was heard last, not a version",
    ("skyspool/doctor/probes.py", "os.fsync(descriptor)"): "is timed, for what it tells of the server",
    ("skyspool/doctor/probes.py", "disk.sync(folder)"): "is timed, for what it tells of the server",
    ("spoold/head/keeping.py", "self.epoch.offset - self.offset >= BYTES"): "how much was written, not by whom",
    ("spoold/head/loop.py", "term.epoch.offset >= (LONG if idle else VERY_LONG)"): "how much was written, not by whom",
    ("spoold/head/presence.py", "(role, epoch) != (self.role, self.epoch)"): "what is shown; nothing is decided by it",
    ("spoold/head/project.py", "job.file in self._names(self.epoch.claims)"): "which files are there, not whose",
    ("spoold/node/runner.py", "found.version != self.read_version"): "tells once what is refused",
    ("spoold/node/runner.py", "self.read_version != self.seen"): "whose names are told; nothing is decided by it",
    ("spoold/restored.py", "epoch in history.epochs(spool, disk)"): "whether there is a file that may be shorter",
}


# What tells of kills, power losses, lost replies and simulated faults; not how one call follows another.
STORIES = (
    "tests/faults/",
    "tests/simulation/",
    "tests/head/test_cuts.py",
    "tests/head/test_takeover.py",
    "tests/layout/test_history.py::test_a_generation_cut_anywhere",
    "tests/fsck/test_recover.py::test_wherever_recover_is_cut_it_is_refused_still_or_done",
    "tests/fsck/test_fsck.py::test_a_repair_that_is_cut_anywhere_and_done_again_has_the_result_of_one_that_was_not",
)


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


def test_each_fsync_and_each_order_of_steps_has_a_story_or_a_reason_why_there_is_none() -> None:
    told = {m.name for m in MUTANTS if m.stories or m.without_story}
    assert told == {m.name for m in MUTANTS if m.group in ("fsync", "order")}
    assert [m.name for m in MUTANTS for story in m.stories if not story.startswith(STORIES)] == []


def test_the_table_tells_of_each_mutant_what_the_catalogue_says_and_none_survived() -> None:
    told = rows()
    assert list(told) == [mutant.name for mutant in MUTANTS], "make mutants"
    assert [m.name for m in MUTANTS if not tells(told[m.name], m)] == [], "make mutants ARGS=--missing"


def test_the_tests_that_the_table_names_are_there() -> None:
    for killer in {killer for lines in rows().values() for killer in killers_of(lines)} - {SURVIVED}:
        file, _, test = killer.split(" (")[0].partition("::")
        name = test.split("[")[0]
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), killer


# ---- judging


SOUND = """\
fsync  one                                           35 s  tests/a.py::test_a[1]
            without: one thing
            story: tests/b.py::test_b
order  two                                            3 s  tests/a.py::test_a[2]
            without: another
            story: none, it has no moment
epoch  three                                        272 s  tests/c.py::test_c (not done after 900 s)
            without: a third
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of three, and a table that tells of them; nothing is really run: `killers` says who kills what."""
    made = tmp_path / "table.txt"
    made.write_text(SOUND)
    monkeypatch.setattr(run, "TABLE", made)
    monkeypatch.setattr(run, "MUTANTS", THREE)
    return made


THREE = [
    Mutant("fsync", "one", "one thing", "a.py", ("tests/a.py",), "a", "b", ("tests/b.py",)),
    Mutant("order", "two", "another", "a.py", ("tests/a.py::test_a",), "a", "b", (), "it has no moment"),
    Mutant("epoch", "three", "a third", "a.py", ("tests/c.py::test_c",), "a", "b"),
]


def judge_by(monkeypatch: pytest.MonkeyPatch, **killers: str) -> list[str]:
    """Whatever is chosen is killed as the table above says, or as told here; the names of what is chosen, at last."""
    chosen: list[str] = []
    known = run.rows()

    def judged(mutants: list[Mutant], jobs: int, rows: dict[str, str]) -> list[Verdict]:
        chosen.extend(mutant.name for mutant in mutants)
        verdicts = []
        for m in mutants:
            story = run.NONE + m.without_story if m.without_story else "tests/b.py::test_b" if m.stories else ""
            old = known[m.name].split("\n")[0].split(" s  ")[1]
            verdicts.append(Verdict(m, killers.get(m.name, old), story, 1.0))
        run.write({**rows, **{v.mutant.name: run.row(v) for v in verdicts}})
        return verdicts

    monkeypatch.setattr(run, "judged", judged)
    return chosen


def test_a_whole_run_is_green_where_the_table_told_the_same_before(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = judge_by(monkeypatch)
    assert run.main([]) == 0
    assert chosen == ["one", "two", "three"]
    assert capsys.readouterr().out == "3 killed, 0 survived: \n"
    assert table.read_text().count("    1 s  tests/") == 3 and "none, it has no moment" in table.read_text()


def test_a_whole_run_is_red_where_one_survives(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_by(monkeypatch, two=SURVIVED)
    assert run.main([]) == 1
    judge_by(monkeypatch)
    assert run.main(["two"]) == 1, "as the table says"


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("one", "tests/a.py::test_a[1]", "tests/aa.py::test_a"),
        ("one", "tests/a.py::test_a[1]", SURVIVED),
        ("one", "tests/b.py::test_b", SURVIVED),
        ("one", "tests/b.py::test_b", "tests/a.py::test_a"),
        ("one", "\n            story: tests/b.py::test_b", ""),
        ("one", "one thing", "one"),
        ("two", "it has no moment", "not told"),
        ("three", "a third", "a third\n            story: tests/b.py::test_b"),
    ],
)
def test_lines_that_tell_something_else_than_the_catalogue_asks_for_are_not_believed(
    name: str, right: str, wrong: str, table: Path
) -> None:
    mutant = next(mutant for mutant in THREE if mutant.name == name)
    lines = run.rows()[name]
    assert right in lines and tells(lines, mutant)
    assert not tells(lines.replace(right, wrong), mutant)


@pytest.mark.parametrize("stale", ["test_a[2]", "another", "it has no moment", "tests/b.py::test_b"])
def test_a_whole_run_is_red_where_the_table_told_something_else(
    stale: str, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_by(monkeypatch, two="tests/a.py::test_a[2]")
    table.write_text(SOUND.replace(stale, "old"))
    assert run.main([]) == 1
    name = "one" if "b.py" in stale else "two"
    assert f"it told something else: {name}\n" in capsys.readouterr().out
    assert run.main([]) == 0, "it is written anew"


def test_a_mutant_that_is_gone_makes_a_whole_run_red(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_by(monkeypatch)
    monkeypatch.setattr(run, "MUTANTS", THREE[:2])
    assert run.main([]) == 1
    assert list(run.rows()) == ["one", "two"]


def test_a_run_of_some_renews_their_lines_alone(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = judge_by(monkeypatch, two="tests/a.py::test_a[other]")
    assert run.main(["two"]) == 0
    assert chosen == ["two"]
    assert "test_a[other]" in table.read_text() and "  35 s" in table.read_text()


def test_what_a_run_that_was_cut_has_left_is_judged_by_the_next(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = judge_by(monkeypatch, two="tests/a.py::test_a", three="tests/c.py::test_c")
    table.write_text(
        "".join(SOUND.splitlines(keepends=True)[:3]) + "order  two      3 s  SURVIVED\n  without: another\n"
    )
    assert run.main(["--missing"]) == 0
    assert chosen == ["two", "three"]
    assert list(run.rows()) == ["one", "two", "three"]
