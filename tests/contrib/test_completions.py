"""The completions know every verb and option, offer what stands in the spool, and start no Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import skyspool.commandline
import spoold.__main__
from tests.contrib.completing import SHELLS, Complete, installed

PROGRAMS: dict[str, click.Group] = {"skyspool": skyspool.commandline.cli, "spoold": spoold.__main__.main}
CLUSTERS = {"mycluster", "other"}


def commands() -> list[tuple[str, click.Command]]:
    """(`skyspool exec`, its command) …, the programs themselves among them."""
    found: list[tuple[str, click.Command]] = []
    for program, group in PROGRAMS.items():
        context = click.Context(group)
        found.append((program, group))
        for verb in group.list_commands(context):
            command = group.get_command(context, verb)
            assert command is not None
            found.append((f"{program} {verb}", command))
    return found


def options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def spellings(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


@pytest.fixture(params=SHELLS)
def complete(
    request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Complete]:
    """Ask one of the shells; a home with two clusters, a directory with task files; no Python on the way."""
    shell = request.param
    if not installed(shell):
        pytest.skip(f"{shell} is not installed: its completions are NOT tested")
    for cluster, files in {
        "my spool": ["pending/3.train.yaml", "pending/new@0123456789abcd.yaml", "running/2.eval.yaml", *ENDED],
        "other": ["pending/17.x.yaml"],
    }.items():
        for file in ["spool.yaml", *files]:
            (tmp_path / cluster / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / cluster / file).touch()
    (home / ".config/skyspool").mkdir(parents=True)
    (home / ".config/skyspool/config.yaml").write_text(
        f"default: mycluster\nclusters:\n  mycluster: {tmp_path}/my spool\n  other: {tmp_path}/other\n"
    )
    here = tmp_path / "here"
    for name in ("train.yaml", "eval.yml", "notes.txt", "sub/x"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in ("skyspool", "spoold", "python", "python3"):
        (tools / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tools / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    yield lambda *lines: SHELLS[shell](here, *lines)
    assert not (tmp_path / "started").exists(), "a program was started"


ENDED = ["done/2026-01-01/0.old.FAILED.yaml", "done/2026-01-02/1.done.SUCCEEDED.yaml", "done/2026-01-02/7.jsonl"]


def test_every_verb_is_offered(complete: Complete) -> None:
    of_skyspool, of_spoold, some = complete("skyspool ", "spoold ", "skyspool l")
    assert of_skyspool == set(skyspool.commandline.VERBS)
    assert of_spoold == set(spoold.__main__.main.commands)
    assert some == {verb for verb in skyspool.commandline.VERBS if verb.startswith("l")}


def test_exactly_the_options_of_each_command_are_offered(complete: Complete) -> None:
    offered = complete(*(f"{line} --" for line, _ in commands()))
    wanted = {
        line: {s for option in options(command) for s in spellings(option) if s.startswith("--")} | {"--help"}
        for line, command in commands()
    }
    assert dict(zip(wanted, offered, strict=True)) == wanted


def test_an_option_that_takes_a_value_is_known_to_do_so(complete: Complete) -> None:
    """What stands behind it is its value, never a cluster; what stands behind that is a first word again."""
    valued = [
        (line, option, spelling)
        for line, command in commands()
        for option in options(command)
        for spelling in option.opts
        if not option.is_flag and option.name not in ("cluster", "output")
    ]
    assert len(valued) > 20
    values = complete(*(f"{line} {spelling} " for line, _, spelling in valued))
    assert [(line, s) for (line, _, s), offered in zip(valued, values, strict=True) if offered & {*CLUSTERS, "2"}] == []
    joined = complete(*(f"{line} {s}=" for line, _, s in valued if s.startswith("--")))
    assert [offered for offered in joined if offered & {*CLUSTERS, "2"}] == []
    of_exec = [spelling for line, _, spelling in valued if line == "skyspool exec"]
    assert all(offered >= CLUSTERS for offered in complete(*(f"skyspool exec {s} 1 " for s in of_exec)))


def test_a_flag_takes_no_value(complete: Complete) -> None:
    flags = [
        f"{line} {spelling} "
        for line, command in commands()
        for option in options(command)
        for spelling in spellings(option)
        if option.is_flag and line.partition(" ")[2] in ("exec", "queue", "logs", "cancel")
    ]
    assert len(flags) > 10
    assert [line for line, offered in zip(flags, complete(*flags), strict=True) if not offered >= CLUSTERS] == []


def test_the_values_of_a_choice_are_offered(complete: Complete) -> None:
    choices = [
        (f"{line} {spelling} ", set(option.type.choices))
        for line, command in commands()
        for option in options(command)
        if isinstance(option.type, click.Choice)
        for spelling in option.opts
    ]
    assert complete(*(line for line, _ in choices)) == [wanted for _, wanted in choices]


def test_clusters_are_offered_where_one_may_stand(complete: Complete) -> None:
    lines = ["queue ", "status ", "prune ", "exec -c ", "launch --cluster ", "queue other "]
    assert complete(*(f"skyspool {line}" for line in lines)) == [CLUSTERS] * len(lines)
    first, begun = complete("skyspool use ", "skyspool queue my")
    assert first >= CLUSTERS
    assert begun == {"mycluster"}


def test_live_jobs_are_offered_and_for_logs_those_of_the_last_day(complete: Complete) -> None:
    assert complete("skyspool cancel ", "skyspool cancel 3 ", "skyspool why mycluster ", "skyspool logs --tail 5 ") == [
        {"2", "3", *CLUSTERS},
        {"2", "3"},
        {"2", "3"},
        {"1", "2", "3", *CLUSTERS},
    ]
    assert complete("skyspool cancel other ", "skyspool logs other --tail 5 ", "skyspool logs other 1") == [
        {"17"},
        {"17"},
        {"17"},
    ]


def test_skyspool_dir_says_which_spool_is_meant(
    complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYSPOOL_DIR", str(tmp_path / "other"))
    assert complete("skyspool why 1") == [{"17"}]


def test_a_directory_may_stand_for_a_cluster(complete: Complete, tmp_path: Path) -> None:
    assert complete(f"skyspool cancel {tmp_path}/other ") == [{"17"}]


def test_task_files_and_directories_are_offered(complete: Complete) -> None:
    first, later, check = complete("skyspool exec ", "skyspool launch -c other ", "skyspool lint train.yaml ")
    assert slashless(first) == {"train.yaml", "eval.yml", "sub", *CLUSTERS}
    assert slashless(later) - CLUSTERS == slashless(check) == {"train.yaml", "eval.yml", "sub"}


def test_behind_two_dashes_stands_a_command(complete: Complete) -> None:
    command, word = complete("skyspool exec mycluster -- bas", "skyspool exec --gpus H100:1 -- cat not")
    assert {"bash", "basename"} <= command
    assert word == {"notes.txt"}


def test_without_a_configuration_nothing_is_offered_and_nothing_goes_wrong(complete: Complete, home: Path) -> None:
    (home / ".config/skyspool/config.yaml").unlink()
    assert complete("skyspool queue ", "skyspool cancel ") == [set(), set()]


def slashless(words: set[str]) -> set[str]:
    return {word.removesuffix("/") for word in words}
