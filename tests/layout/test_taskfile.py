"""SkyPilot's task files: what is taken, what is refused and how it is told, and that no file does harm."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spool_layout.problems import MOST, InvalidTask, Problem
from spool_layout.records import Demand
from spool_layout.resources import MOST_ALTERNATIVES
from spool_layout.taskfile import (
    MAX_BYTES,
    Git,
    TaskSpec,
    is_complete,
    parse_task,
    read_mapping,
    read_task_mapping,
)
from spool_layout.yamltext import documents
from tests.layout.task_cases import ACCEPTED, ENV_VALUES, REFUSED, Accepted, Refused


def problems(text: str | bytes, **how: Any) -> list[Problem]:
    """What is wrong with a text; [] for nothing."""
    try:
        parse_task(text.encode() if isinstance(text, str) else text, **how)
    except InvalidTask as error:
        return list(error.problems)
    return []


def only_problem(text: str | bytes, **how: Any) -> str:
    (problem,) = problems(text, **how)
    return str(problem)


# ---- as under SkyPilot


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.text[:60])
def test_what_skypilot_takes_is_taken_with_its_values(case: Accepted) -> None:
    task = parse_task(case.text.encode())
    assert {field: getattr(task, field) for field in case.fields} == case.fields


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.text[:60])
def test_what_skypilot_refuses_is_refused_with_line_key_and_reason(case: Refused) -> None:
    told = [(problem.line, problem.key, str(problem)) for problem in problems(case.text)]
    assert [words for line, key, words in told if (line, key) == (case.line, case.key) and case.words in words], told


def test_envs_are_text_as_pyyaml_and_str_make_it() -> None:
    read = {written: parse_task(f"envs:\n  A: {written}\n".encode()).envs["A"] for written in ENV_VALUES}
    assert read == ENV_VALUES


@settings(deadline=None)
@given(st.text("0123456789+-_.:xobeEaAinfINFyYnNtTrRuUsSlL~=<", min_size=1, max_size=12))
@example("0x_")
@example("1:1.")
@example("-0b1_1")
@example("<<")
def test_a_bare_word_is_what_pyyaml_takes_it_for(word: str) -> None:
    text = f"- {word}\n"
    try:
        theirs = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    if not isinstance(theirs, list) or not isinstance(theirs[0], (str, int, float, bool, type(None))):
        return  # a date, or the word made a list or a mapping of it
    ours = documents(text.encode())[0].value
    assert (type(ours[0]), str(ours[0])) == (type(theirs[0]), str(theirs[0]))


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=20), st.sampled_from(["on"])
)
_keys = st.text(max_size=9)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4))


@settings(deadline=None)
@given(st.dictionaries(_keys, _values, min_size=1, max_size=6), st.booleans())
def test_what_yaml_dumps_is_read_back_as_it_was(value: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False)
    assert str(read_mapping(text.encode())) == str(value)  # str, since nan is not equal to itself


_script = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
_tasks = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9]{1,8}([._-][A-Za-z0-9]{1,8}){0,3}", fullmatch=True),
        "num_nodes": st.integers(1, 1000),
        "setup": _script,
        "run": _script,
        "envs": st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), _script, max_size=5),
        "workdir": st.text(st.characters(codec="utf-8", exclude_characters="$\0"), max_size=40),
    },
)


@settings(deadline=None)
@given(_tasks)
def test_a_task_that_is_written_is_read_with_the_same_values(task: dict[str, Any]) -> None:
    read = parse_task(yaml.safe_dump({"run": "x", **task}, sort_keys=False).encode())
    assert {field: getattr(read, field) for field in task} == task


# ---- told well


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    told = problems("num_nodes: 0\nresources:\n  acelerators: H100\n  cpus: 0\nenvs:\n  A:\nruns: x\n")
    assert [(problem.line, problem.column, problem.key) for problem in told] == [
        (1, 1, "num_nodes"),
        (3, 3, "resources.acelerators"),
        (4, 3, "resources.cpus"),
        (6, 3, "envs.A"),
        (7, 1, "runs"),
    ]


def test_a_problem_reads_as_where_what_and_what_to_do() -> None:
    told = only_problem("run: x\nresources:\n  acelerators: H100\n")
    assert told == ("line 3, column 3: resources.acelerators: there is no such field (did you mean 'accelerators'?)")


def test_a_problem_in_a_list_has_the_line_of_its_item() -> None:
    text = "resources:\n  accelerators:\n    - H100:8\n    - A100:x\n"
    assert only_problem(text).startswith("line 4, column 7: resources.accelerators[1]: 'x' is no count")


def test_a_problem_in_an_aliased_value_has_the_line_where_it_is_written() -> None:
    text = "resources: &r\n  cpus: 1\nfile_mounts:\n  /a: &wrong {sorce: s3://b}\n  /b: *wrong\n"
    assert [(problem.line, problem.key) for problem in problems(text)] == [
        (4, "file_mounts./a.sorce"),
        (4, "file_mounts./b.sorce"),
    ]


def test_a_problem_of_what_stands_beside_candidates_is_told_once_and_there() -> None:
    told = only_problem("resources:\n  cpus: none\n  any_of: [{accelerators: L4}, {accelerators: T4}]\n")
    assert told.startswith("line 2, column 3: resources.cpus:")


def test_a_problem_of_the_header_has_the_headers_line() -> None:
    assert only_problem("---\nname: a b\n---\nrun: x\n").startswith("line 2, column 1: name: 'a b' is no name")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run: x\nrun: y\n", "line 2, column 1: key 'run' stands here a second time (first in line 1)"),
        ("envs: {A: 1, A: 2}\n", "key 'A' stands here a second time"),
        ("run: a: b\n", 'text that holds ": " must stand in quotes'),
        ("run:\n\t- x\n", "indent with spaces, not tabs"),
        ("run: |\n  a\n b\n", "did not find expected key while parsing a block mapping that begins in line 1"),
        ("run: 'x\n", "a quote is not closed"),
        ("run: [x\nname: y\n", "is not YAML: did not find expected ',' or ']'"),
        ("run: *x\n", "the word after * names nothing before it"),
        ("run: &a [*a]\n", "the word after * names nothing before it"),
        ("envs: {<<: [1]}\n", "<< merges mappings only"),
        ("run: !!python/object:os.system x\n", "a tag is not accepted"),
        ("envs: !!set {A}\n", "a tag is not accepted"),
        ("? [a]\n: x\n", "a key must be a plain word"),
        ("run: x\0\n", "#x0000"),
        (b"name: caf\xe9\nrun: x\n", "is not UTF-8 text (byte 0xe9 at offset 9)"),
        ("run: x\n".encode("utf-16"), "is not UTF-8 text"),
        ('run: "\\ud800"\n', "invalid Unicode character escape code"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_advice(text: str | bytes, told: str) -> None:
    assert told in only_problem(text)


def test_a_long_word_is_cut_in_a_message_and_a_strange_one_stays_on_its_line() -> None:
    assert len(only_problem("? " + "k" * 100_000 + "\n: 1\n")) < 200
    assert only_problem('"a\\nb\\e": 1\n').count("\n") == 0


# ---- what the command line gives, and what a dropped file lacks


def test_given_values_fill_and_override_the_files() -> None:
    text = b"envs: {A: , B: old}\nsecrets: {S: , T: t, secrets:global.U: }\n"
    task = parse_task(text, overrides={"A": "a", "B": "new", "S": "s", "U": "u", "EXTRA": "e"})
    assert task.envs == {"A": "a", "B": "new", "EXTRA": "e"}
    assert task.secrets == {"S": "s", "T": "t", "U": "u"}


def test_secrets_that_skypilots_server_would_keep_take_given_values() -> None:
    text = b"secrets: [secrets:A, B]\nmanaged_secrets: [personal.C]\nrun: x\n"
    task = parse_task(text, overrides={"A": "a", "B": "b", "C": "c"})
    assert (task.secrets, task.envs) == ({"A": "a", "B": "b", "C": "c"}, {})


def test_given_values_are_filled_into_paths() -> None:
    assert parse_task(b"envs: {D: }\nworkdir: $D/x\n", overrides={"D": "/data"}).workdir == "/data/x"


def test_a_dropped_file_needs_absolute_paths() -> None:
    text = "workdir: project\nfile_mounts:\n  data: ./data\n  /bucket: s3://b\n  ok: ~/x\n"
    told = problems(text, require_absolute_workdir=True)
    assert [problem.key for problem in told] == ["workdir", "file_mounts.data"]
    assert all("in a dropped file nobody knows what it would be relative to" in problem.message for problem in told)
    assert not problems(text)


@pytest.mark.parametrize("written", ["/x", "~", "~/x", "~someone/x", "''", "{url: 'https://x/y'}", "null"])
def test_absolute_paths_home_and_clones_do_for_a_dropped_file(written: str) -> None:
    assert not problems(f"workdir: {written}\nrun: x\n", require_absolute_workdir=True)


def test_an_address_for_a_workdir_is_told_how_to_clone() -> None:
    told = only_problem("workdir: https://x/y.git\n", require_absolute_workdir=True)
    assert "to clone a repository, write workdir: {url: …}" in told


def test_a_repository_is_cloned_at_its_ref() -> None:
    assert parse_task(b"envs: {R: v1}\nworkdir: {url: https://x/y, ref: $R}\n").git == Git("https://x/y", "v1")
    assert parse_task(b"workdir: {url: git@x:y.git}\n").git == Git("git@x:y.git")


def test_the_mapping_is_read_as_it_is_written() -> None:
    text = b"name: head\n---\nenvs: {A: 1.10, NO: on}\nrun: x\n"
    assert read_task_mapping(text) == {"name": "head", "envs": {"A": 1.1, "NO": True}, "run": "x"}


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        (b"run: x\n...\n", True),
        (b"run: x\n...", True),
        (b"...\n", True),
        (b"run: x\n...  \r\n\n", True),
        (b"run: x\n", False),
        (b"run: |\n  ...\n", False),
        (b"run: x...\n", False),
        (b"...\nrun: x\n", False),
        (b"", False),
    ],
)
def test_a_text_is_complete_with_the_end_mark_in_column_0(text: bytes, complete: bool) -> None:
    assert is_complete(text) is complete


# ---- no file does harm

_ITEMS = "".join(f"  k{n}: 1\n" for n in range(20_000))
_LONG = "x" * 1_000_000
_DOUBLING = "a: &a {k: 1, l: 2}\nb0: &b0 {<<: [*a, *a]}\n" + "".join(
    f"b{n}: &b{n} {{<<: [*b{n - 1}, *b{n - 1}]}}\n" for n in range(1, 40)
)
_TENFOLD = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

HOSTILE = {
    "bytes beyond measure": ("x" * (MAX_BYTES + 1), "at most"),
    "an alias bomb": (_TENFOLD, "holds more than 50000 values"),
    "a merge bomb": (_DOUBLING, "holds more than 50000 values"),
    "lists 100,000 deep": ("a: " + "[" * 100_000, "nest"),
    "mappings 100,000 deep": ("a: " + "{b: " * 100_000, "is nested deeper than 30 levels"),
    "items 100,000 deep": ("a:\n" + "- " * 100_000, "is nested deeper than 30 levels"),
    "a million values": ("a:\n" + "- b\n" * 1_000_000, "holds more than 50000 values"),
    "a million documents": ("---\n" * 1_000_000, "holds more than 50000 values"),
    "a number of 5,000 digits": ("num_nodes: " + "9" * 5000, "a number of 5000 digits"),
    "a number of 900 digits": ("num_nodes: " + "9" * 900, "a number of 900 digits"),
    "a number of 290 digits": ("num_nodes: " + "9" * 290, "a whole number from 1 to 100000"),
    "a debt of 290 digits": ("resources: {cpus: -" + "9" * 290 + "}", "must be a number above 0"),
    "a long text thousands of times": (
        f"run: &t {_LONG}\nenvs: {{A: [{'*t, ' * 20_000}]}}\n", "holds more than 16777216 characters"
    ),
    "a long variable thousands of times": (
        f"run: &t {_LONG}\nenvs: {{{', '.join(f'A{n}: *t' for n in range(20_000))}}}\n",
        "holds more than 16777216 characters",
    ),
    "a share of 290 digits": ("resources: {cpus: " + "9" * 290 + "}", "must be a number above 0"),
    "a variable used without end": (f"envs: {{A: {_LONG}}}\nworkdir: {'$A' * 10_000}\n", "longer than 4096"),
    "a mount for each of 20,000": ("file_mounts:\n" + _ITEMS.replace(": 1", ": /x"), "at most 1000 are taken"),
    "20,000 unknown fields": ("resources:\n" + _ITEMS, "more problems"),
    "20,000 unknown fields inside": ("service:\n" + _ITEMS, "there is no such field"),
    "20,000 accelerators": ("resources:\n accelerators:\n" + _ITEMS, f"more than {MOST_ALTERNATIVES} alternatives"),
    "9,000 candidates": ("resources:\n any_of:\n" + " - {cpus: 1}\n" * 9_000, f"at most {MOST_ALTERNATIVES}"),
    "200 times 200": (
        "resources:\n accelerators: {" + ", ".join(f"gpu{n}" for n in range(200)) + "}\n any_of:\n"
        + "".join(f" - {{cpus: {n + 1}}}\n" for n in range(200)),
        f"makes more than {MOST_ALTERNATIVES} alternatives",
    ),
    "names of a million letters": (f"resources: {{accelerators: [{_LONG}1, {_LONG}2]}}", "is no name"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_soon_and_in_few_words(name: str) -> None:
    text, words = HOSTILE[name]
    began = time.process_time()
    told = problems(text)
    assert time.process_time() - began < 3, "a tick must not wait for a bad file"
    assert words in "\n".join(map(str, told))
    assert len(told) <= MOST + 1
    assert sum(len(str(problem)) for problem in told) < 30_000


@pytest.mark.parametrize("block", ["run: |\n", "run: >\n", "setup: |\n"])
def test_a_script_of_200_000_lines_is_taken(block: str) -> None:
    text = block + "".join(f"  echo line {n}\n" for n in range(200_000))
    began = time.process_time()
    task = parse_task(text.encode())
    assert time.process_time() - began < 3
    assert (task.run or task.setup).count("echo line") == 200_000


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_whatever_the_bytes_nothing_but_a_verdict_comes_back(data: bytes) -> None:
    assert isinstance(verdict(data), (TaskSpec, InvalidTask))


_words = st.sampled_from(
    ["name", "run", "envs", "secrets", "workdir", "url", "ref", "num_nodes", "resources", "accelerators", "gpus",
     "cpus", "any_of", "ordered", "memory", "file_mounts", "/a", "ports", "autostop", "service", "pool", "<<", "H100:8",
     "job_recovery", "80GB+", "{", "}", "[", "]", ",", ": ", ":", "- ", "\n", "\n  ", "\n    ", "|", ">", "&a ", "*a",
     "'", '"', "#", "\t", "!!str ", "---\n", "...\n", "1", "0.5", "-1", "on", "~", "null", "$A", "${A}", "s3://b", "://[",
     "A", "\u2028", "é", "\0"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(_words, max_size=25).map("".join))
@example("file_mounts: {/a: 'http://['}")
@example("file_mounts: {'$': x, /: /}")
@example("resources: {accelerators: {: 1}}")
@example("resources: {accelerators: ':'}")
@example("? a\n: b\n? c")
def test_whatever_is_like_yaml_nothing_but_a_verdict_comes_back(text: str) -> None:
    for dropped in (False, True):
        told = verdict(text.encode(), require_absolute_workdir=dropped)
        assert isinstance(told, (TaskSpec, InvalidTask))
        if isinstance(told, InvalidTask):
            assert told.problems and all(problem.message for problem in told.problems)


def verdict(data: bytes, **how: Any) -> TaskSpec | InvalidTask:
    try:
        return parse_task(data, **how)
    except InvalidTask as error:
        return error


def test_a_given_value_that_no_variable_can_have_is_refused() -> None:
    assert "holds a NUL" in only_problem("envs: {A: }\nrun: x\n", overrides={"A": "a\0b"})


def test_reading_a_task_loads_what_it_needs_and_no_more() -> None:
    code = "import sys, spool_layout.taskfile; print(*{'difflib', 'jsonschema', 'json', 'click'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_a_task_without_resources_takes_half_a_cpu() -> None:
    assert parse_task(b"run: x\n").demands == (Demand("", 0, 500, 0),)
