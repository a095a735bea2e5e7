"""`make mutants`: take away one safeguard after the other, in a copy of the source, until a test goes red for each.

    python -m tests.mutants.run [NAME ...] [--jobs N] [--all]

Writes table.txt; with names, only their lines anew; without, those that the table lacks or tells as surviving, and with
--all every one. Each worker has a copy of its own, from which everything is imported: PYTHONPATH comes before the path
of the editable installation, and is asked before anything is believed. At the end all tests that killed a mutant run
without any; one that fails then proves nothing, and its mutants count as survivors.
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

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.scan import ROOMS, ROOT

TABLE = Path(__file__).with_name("table.txt")
LONGEST = 900  # seconds for one file of tests
RED = re.compile(r"^(?:FAILED|ERROR) (tests.+?)(?: - .*)?$", re.MULTILINE)
ROW = re.compile(r"^\w+ +(\S+) +\d+ s  .*\n +without: .*$", re.MULTILINE)
SURVIVED = "SURVIVED"
HEAD = """\
What was taken away from the code, and the first test that went red; made by `make mutants`.

"""


class Verdict(NamedTuple):
    """killer: the id of a test, or SURVIVED."""

    mutant: Mutant
    killer: str
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
        killer = SURVIVED
        for test in (test for test in mutant.tests if (self.root / test.partition("::")[0]).exists()):
            self._stand(path, text.replace(mutant.old, mutant.new))
            red = self.red(test)
            self._stand(path, text)
            if red:
                killer = red[0]
                break
        return Verdict(mutant, killer, time.monotonic() - began)

    def _stand(self, path: Path, text: str) -> None:
        """Change a file. What was compiled of it goes: it may change twice within a second and keep its length."""
        path.write_text(text, encoding="utf-8")
        for old in self.compiled.joinpath(*path.parent.parts[1:]).glob(f"{path.stem}.*.pyc"):
            old.unlink()


# ---- the table


def rows() -> dict[str, str]:
    """The lines of the table, two for each mutant, by its name."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    return {match[1]: match[0] for match in ROW.finditer(text)}


def row(verdict: Verdict) -> str:
    """Group, name, seconds, killer, and what was taken away."""
    m = verdict.mutant
    return f"{m.group:6} {m.name:41} {verdict.seconds:5.0f} s  {verdict.killer}\n{'':12}without: {m.what}"


def write(lines: dict[str, str]) -> None:
    """The whole table, in the order of the catalogue."""
    TABLE.write_text(HEAD + "".join(f"{lines[m.name]}\n" for m in MUTANTS if m.name in lines), encoding="utf-8")


def main() -> int:
    """The exit code: 1 where a mutant survived."""
    parser = argparse.ArgumentParser(description="Take away one safeguard after the other; a test must go red.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    known = rows()
    open_ones = {m.name for m in MUTANTS if asked.all or SURVIVED in known.get(m.name, SURVIVED)}
    chosen = [m for m in MUTANTS if m.name in (asked.names or open_ones)]
    verdicts = judged(chosen, asked.jobs, known)
    survivors = [v.mutant.name for v in verdicts if v.killer == SURVIVED]
    print(f"{len(verdicts) - len(survivors)} killed, {len(survivors)} survived: {' '.join(survivors)}")
    return bool(survivors)


def judged(chosen: list[Mutant], jobs: int, known: dict[str, str]) -> list[Verdict]:
    """Judge mutants side by side; the table is written anew after each."""
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
        verdicts = proven(free.get(), verdicts)
    write({**known, **{verdict.mutant.name: row(verdict) for verdict in verdicts}})
    return verdicts


def proven(copy: Copy, verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts, without belief in tests that fail without a mutant as well."""
    killers = sorted({verdict.killer.partition(" (")[0] for verdict in verdicts} - {SURVIVED})
    failing = copy.red(*killers, first=False) if killers else []
    for test in failing:
        print(f"proves nothing, since it fails without a mutant: {test}", flush=True)
    return [v._replace(killer=SURVIVED) if v.killer.partition(" (")[0] in failing else v for v in verdicts]


if __name__ == "__main__":
    sys.exit(main())
