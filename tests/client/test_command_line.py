from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyspool import shortcut
from skyspool.commandline import ELSEWHERE, VERBS, carry_out, nearest_verb
from tests.client.conftest import Run


def test_every_verb_has_a_file_and_a_test_file() -> None:
    here = Path(__file__).parent
    verbs = {path.stem for path in (here.parents[1] / "skyspool/verbs").glob("*.py")} - {"__init__"}
    assert verbs == set(VERBS)
    tested = {path.stem.removeprefix("test_") for path in here.glob("test_*.py")}
    assert {"up_down" if verb in ("up", "down") else verb for verb in verbs} <= tested


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)])
def test_help_fits_80_columns_and_tells_every_option(
    sky: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = sky(*verb, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert sky(*verb, "-h").out == ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "TEXT" not in ran.out  # each value has a name of its own
    lines = [line for line in ran.out.splitlines() if line.startswith("  -")]
    assert lines and all(len(line.split("  ")) > 2 or line.rstrip() == line for line in lines)


def test_without_a_verb_it_shows_the_list(sky: Run) -> None:
    ran = sky()
    assert ran.code == 0
    assert all(f"\n  {verb} " in ran.out for verb in VERBS)


def test_the_version(sky: Run) -> None:
    assert sky("--version").out.startswith("skyspool 0.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quue"], "error: there is no verb 'quue'; did you mean 'queue'?\nhint: skyspool --help\n"),
        (["run", "x"], "error: there is no verb 'run'; did you mean 'exec'?\nhint: skyspool --help\n"),
        (["squeu"], "error: there is no verb 'squeu'; did you mean 'queue'?\nhint: skyspool --help\n"),
        (["KILL", "3"], "error: there is no verb 'KILL'; did you mean 'cancel'?\nhint: skyspool --help\n"),
        (["lint"], "error: missing argument 'FILE...'\nhint: skyspool lint --help\n"),
        (
            ["logs", "--tail", "x"],
            "error: invalid value for '--tail': 'x' is not a valid integer range\nhint: skyspool logs --help\n",
        ),
        (["status", "--nope"], "error: no such option '--nope'\nhint: skyspool status --help\n"),
        (
            ["exec", "--gpu", "1", "--", "ls"],
            "error: no such option '--gpu' (did you mean one of: '--cpus', '--gpus'?)\n"
            "hint: skyspool exec --help      # options of your own command go behind `--`\n",
        ),
    ],
)
def test_a_command_line_that_cannot_be_read(sky: Run, words: list[str], told: str) -> None:
    ran = sky(*words)
    assert (ran.code, ran.out, ran.err) == (2, "", told)


def test_words_of_other_queues_mean_verbs_that_there_are() -> None:
    assert set(ELSEWHERE.values()) <= set(VERBS) and not ELSEWHERE.keys() & VERBS.keys()
    assert nearest_verb("entirely-else") == ""


def test_an_error_of_the_system_is_told_in_one_line(sky: Run, home: Path) -> None:
    os.mkdir(home / ".config")
    (home / ".config/skyspool").write_text("")
    ran = sky("queue")
    assert ran.code == 1
    assert ran.err.startswith(f"error: {home}/.config/skyspool/config.yaml: Not a directory")


def test_what_was_told_before_an_error_is_told_though_the_process_does_not_take_itself_apart() -> None:
    code = "import skyspool.__main__ as m; m.main = lambda: print('told') or 3; m.run()"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "told\n", "")


def lines(words: tuple[str, ...], longest: int) -> Iterator[tuple[str, ...]]:
    """Every line of so many of these words."""
    return itertools.chain.from_iterable(itertools.product(words, repeat=n) for n in range(longest + 1))


def test_what_is_read_without_click_is_read_as_click_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, object]] = []
    monkeypatch.setattr("skyspool.queueing.show", lambda *asked: shown.append(dict(zip(FIELDS, asked, strict=True))))
    words = ("-s", "--skip-finished", "-u", "--all-users", "-o", "--output", "json", "table", "here", "", "--", "-su",
             "-ojson", "--output=json", "--skip", "-h", "-")  # fmt: skip
    read = 0
    for line in lines(words, 3):
        asked = shortcut.read(["queue", *line])
        if asked is None:
            continue
        read += 1
        assert carry_out(["queue", *line]) == 0
        assert ("queue", shown.pop()) == asked, line
    assert read > 300 and not shown


FIELDS = ("clusters", "skip_finished", "all_users", "output")
OF_SUBMITTING = (
    "-c", "--cluster", "-d", "--detach", "--detach-run", "-no-d", "-n", "--name", "--workdir", "--gpus", "--cpus",
    "--memory", "--env", "--env-file", "--secret", "--secret-file", "--wait", "--no-wait", "--async", "--no-async",
    "--dryrun", "-y", "--num-nodes", "--git-url", "--cloud", "--down", "--no-setup", "3", "A=b", "here", "", "--", "-",
    "-dn", "--name=x", "--dry", "-h", "ls -l",
)  # fmt: skip
OF_ENTRYPOINTS = ("-d", "--env", "-c", "-n", "--", "ls", "--no-wait", "-x")


@pytest.mark.parametrize("verb", ["exec", "launch"])
def test_what_is_submitted_without_click_is_what_click_reads(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    sent: list[tuple[str, list[str], dict[str, object], list[str]]] = []
    monkeypatch.setattr("skyspool.options.submit", lambda *asked: sent.append(asked) or 0)
    read = 0
    for line in itertools.chain(lines(OF_SUBMITTING, 2), lines(OF_ENTRYPOINTS, 4)):
        asked = shortcut.read([verb, *line])
        if asked is None:
            continue
        read += 1
        assert carry_out([verb, *line]) == 0
        told, typed, values, ignored = sent.pop()
        ours = {name: value for name, value in values.items() if not name.startswith("cloud_")}
        assert (told, ours) == asked and typed == list(line) and not ignored, line
    assert read > 1000 and not sent


@pytest.mark.parametrize(
    "line",
    ["", "status", "queue -h", "queue -o", "queue -o yaml", "-- queue", "exec -h", "exec -n", "exec -n -d ls",
     "exec --num-nodes 2 ls", "launch --no-setup x.yaml", "exec -dn x ls", "exec --name=x ls"],
)  # fmt: skip
def test_what_is_not_sure_is_left_to_click(line: str) -> None:
    assert shortcut.read(line.split()) is None


def test_a_shell_that_asks_for_words_gets_them_from_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shortcut.COMPLETES, "bash_complete")
    assert shortcut.read(["queue"]) is None
