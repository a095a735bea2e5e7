"""`make mutants`: take away one safeguard after the other, in a copy of the source, until a test goes red for each.

    python -m tests.mutants.run [NAME ...] [--jobs N] [--missing]

Without words all are judged, and against the table: the exit code is 1 where one survives, and where the table told
something else before (it is written anew). With names, their lines alone are written anew; with --missing, those of
mutants of which the table tells nothing, something else than the catalogue asks for, or that they survived: so a run
that was cut is gone on with. Each worker has a copy of its
own, from which everything is imported: PYTHONPATH comes before the path of the editable installation, and is asked
before anything is believed. At the end all tests that killed a mutant run without any; one that fails then proves
nothing, and its mutants count as survivors.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from tests.mutants.catalogue import MUTANTS, NONE, Mutant
from tests.mutants.scan import ROOMS, ROOT

TABLE = Path(__file__).with_name("table.txt")
LONGEST = 900  # seconds for one file of tests
RED = re.compile(r"^(?:FAILED|ERROR) (tests.+?)(?: - .*)?$", re.MULTILINE)
ROW = re.compile(r"^\w+ +(\S+) +\d+ s  (.*)\n +without: .*(?:\n +story: (.*))?$", re.MULTILINE)
SURVIVED = "SURVIVED"
HEAD = """\
What was taken away from the code, and the first test that went red; made by `make mutants`. Of an fsync or an order of
steps also the first story of kills, power losses or simulated faults that went red, or why there is none.

"""


class Verdict(NamedTuple):
    """killer, story: the id of a test, or SURVIVED. story: why there is none, or "", where none was to be asked."""

    mutant: Mutant
    killer: str
    story: str
    seconds: float


class Copy:
    """A copy of the source in which one mutant after the other stands."""

    def __init__(self, folder: Path) -> None:
        self.root, self.compiled = folder, folder / "compiled"
        for name in (*ROOMS, "tests", "man", "contrib", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "SECURITY.md"):
            shutil.copy(ROOT / name, folder / name)
        told = self._python("-c", "import spool_layout, spoold, skyspool; print(spool_layout.__file__)").stdout
        assert told.startswith(str(folder)), f"imports come from {told}, not from {folder}"

    def _python(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        more = {"PYTHONPATH": str(self.root), "PYTHONPYCACHEPREFIX": str(self.compiled)}
        more["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # most of a short test's time
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def red(self, *tests: str, first: bool = True) -> list[str]:
        """Those of these tests that fail; the first one alone."""
        options = ("-p", "pytest_timeout", "-p", "no:cacheprovider", "-q", "--tb=no", *(["-x"] if first else []))
        try:
            done = self._python("-m", "pytest", *options, "-m", "not nfs", *tests, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return [f"{tests[0]} (not done after {LONGEST} s)"]
        if done.returncode not in (0, 1, 5):  # 5: there is no such test yet
            raise SystemExit(f"{tests}: pytest ended with {done.returncode}:\n{done.stdout}")
        return RED.findall(done.stdout)

    def judge(self, mutant: Mutant) -> Verdict:
        """Ask the tests of a mutant, one file after the other."""
        began = time.monotonic()
        path = self.root / mutant.file
        text = path.read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, f"{mutant.name}: its text is not once in {mutant.file}"
        killer = self._first_red(mutant, path, text, mutant.tests)
        story = f"{NONE}{mutant.without_story}" if mutant.without_story else ""
        if mutant.stories and asks(mutant.stories, killer):
            story = killer
        elif mutant.stories:
            story = self._first_red(mutant, path, text, mutant.stories)
        return Verdict(mutant, killer, story, time.monotonic() - began)

    def _first_red(self, mutant: Mutant, path: Path, text: str, tests: tuple[str, ...]) -> str:
        for test in (test for test in tests if (self.root / test.partition("::")[0]).exists()):
            self._stand(path, text.replace(mutant.old, mutant.new))
            red = self.red(test)
            self._stand(path, text)
            if red:
                return red[0]
        return SURVIVED

    def _stand(self, path: Path, text: str) -> None:
        """Change a file. What was compiled of it goes: it may change twice within a second and keep its length."""
        path.write_text(text, encoding="utf-8")
        for old in self.compiled.joinpath(*path.parent.parts[1:]).glob(f"{path.stem}.*.pyc"):
            old.unlink()


# ---- the table


def asks(tests: tuple[str, ...], killer: str) -> bool:
    """Whether a test is one of these, or in one of these files or directories."""
    named = killer.split(" (")[0]
    return any(named == test or named.startswith((f"{test}/", f"{test}::", f"{test}[")) for test in tests)


def killers_of(lines: str) -> list[str]:
    """The tests that the lines of a mutant name."""
    match = ROW.fullmatch(lines)
    return [name for name in match.groups()[1:] if name and not name.startswith(NONE)] if match else []


def tells(lines: str, mutant: Mutant) -> bool:
    """Whether the lines of a mutant tell what its entry asks for, and that it did not survive."""
    killer, *story = killers_of(lines) or [SURVIVED]
    if SURVIVED in lines or not asks(mutant.tests, killer) or f"without: {mutant.what}\n" not in f"{lines}\n":
        return False
    if mutant.stories:
        return len(story) == 1 and asks(mutant.stories, story[0])
    return not story and (f"story: {NONE}{mutant.without_story}" in lines if mutant.without_story else True)


def rows() -> dict[str, str]:
    """The lines of the table, two or three for each mutant, by its name."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    return {match[1]: match[0] for match in ROW.finditer(text)}


def row(verdict: Verdict) -> str:
    """Group, name, seconds, killer, what was taken away, and the story."""
    m = verdict.mutant
    told = f"{m.group:6} {m.name:41} {verdict.seconds:5.0f} s  {verdict.killer}\n{'':12}without: {m.what}"
    return f"{told}\n{'':12}story: {verdict.story}" if verdict.story else told


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of mutants of which two tables do not tell the same. How long one took does not count."""
    plain = [{name: re.sub(r" +\d+ s  ", " ", lines) for name, lines in table.items()} for table in (before, now)]
    return sorted(name for name in before.keys() | now.keys() if plain[0].get(name) != plain[1].get(name))


def write(lines: dict[str, str]) -> None:
    """The whole table, in the order of the catalogue."""
    TABLE.write_text(HEAD + "".join(f"{lines[m.name]}\n" for m in MUTANTS if m.name in lines), encoding="utf-8")


def main(words: list[str]) -> int:
    """The exit code: 1 where a mutant survived, or where the table was judged and told something else."""
    parser = argparse.ArgumentParser(description="Take away one safeguard after the other; a test must go red.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--missing", action="store_true")
    asked = parser.parse_args(words)
    if unknown := set(asked.names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    before = rows()
    unsure = {m.name for m in MUTANTS if not tells(before.get(m.name, ""), m)}
    whole = not asked.names and not asked.missing
    chosen = [m for m in MUTANTS if whole or m.name in asked.names or (asked.missing and m.name in unsure)]
    verdicts = judged(chosen, asked.jobs, {} if whole else dict(before))
    survivors = [v.mutant.name for v in verdicts if SURVIVED in (v.killer, v.story)]
    print(f"{len(verdicts) - len(survivors)} killed, {len(survivors)} survived: {' '.join(survivors)}")
    changed = differences(before, rows()) if whole else []
    if changed:
        print(f"table.txt was out of date, and is written anew; of these it told something else: {' '.join(changed)}")
    return bool(survivors or changed)


def judged(chosen: list[Mutant], jobs: int, known: dict[str, str]) -> list[Verdict]:
    """Judge mutants side by side. known: the lines that stay; the table is written after each mutant, so that a run
    which is cut can be gone on with."""
    free: Queue[Copy] = Queue()
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        os.chmod(folder, 0o755)  # some tests become other users
        for number in range(jobs):
            free.put(Copy(Path(folder, str(number))))

        def one(mutant: Mutant) -> Verdict:
            copy = free.get()
            try:
                return copy.judge(mutant)
            finally:
                free.put(copy)

        for verdict in pool.map(one, chosen):
            verdicts.append(verdict)
            known[verdict.mutant.name] = row(verdict)
            print(known[verdict.mutant.name], flush=True)
            write(known)
        verdicts = proven(free, pool, verdicts)
    write({**known, **{verdict.mutant.name: row(verdict) for verdict in verdicts}})
    return verdicts


def proven(free: Queue[Copy], pool: ThreadPoolExecutor, verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts, without belief in tests that fail without a mutant as well."""
    by_file: dict[str, list[str]] = {}
    for killer in sorted({k.partition(" (")[0] for v in verdicts for k in killers_of(row(v))} - {SURVIVED}):
        by_file.setdefault(killer.partition("::")[0], []).append(killer)

    def one(killers: list[str]) -> list[str]:
        copy = free.get()
        try:
            red = copy.red(*killers, first=False)
        finally:
            free.put(copy)
        return killers if any(" (not done" in test for test in red) else red

    failing = [test for red in pool.map(one, by_file.values()) for test in red]
    for test in failing:
        print(f"proves nothing, since it fails without a mutant: {test}", flush=True)
    return [v._replace(killer=_believed(v.killer, failing), story=_believed(v.story, failing)) for v in verdicts]


def _believed(killer: str, failing: list[str]) -> str:
    return SURVIVED if killer.partition(" (")[0] in failing else killer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
