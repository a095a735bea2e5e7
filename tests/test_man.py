"""The man pages say what the code does.

What a page lists is compared with the code in both directions: states, settings, records, the task file, the job's
variables, verbs and options, exit codes. What it quotes from an event file must have the right checksums, and the
example of a file's life is followed. So whoever adds a field or an option is told here which page to mend.

tests/manual.py says how a list is found in a page.
"""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

from skyspool.__main__ import BROKEN_PIPE, INTERRUPTED
from skyspool.commandline import VERBS
from spool_layout import errors, events, fields, records, settings
from spool_layout.events import AnyEvent, Event, decode_events
from spool_layout.records import Assignment
from spool_layout.replay import State
from spool_layout.states import EXIT_CODES, EXIT_NOT_FOUND, LIVE, TRANSITIONS
from spool_layout.taskfile import TaskSpec
from spoold.core.model import Request
from spoold.head.intake import asked
from spoold.node import environment
from spoold.node.workplace import Workplace
from tests.manual import (
    MADE,
    ROOT,
    diagram,
    items,
    literal_lines,
    marked,
    page,
    plain,
    section,
    shown,
    states_section,
    words_of,
)

PAGES = ("skyspool.1", "spool.5", "spoold.8")
WIDTH = 80


# ---- the pages as pages


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_clean_mdoc(name: str) -> None:
    run = mandoc("-T", "lint", "-W", "warning", str(ROOT / "man" / name))
    assert run.stdout + run.stderr == ""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_eighty_columns(name: str) -> None:
    shown = mandoc("-T", "utf8", "-O", "width=78", str(ROOT / "man" / name)).stdout
    lines = re.sub(r".\x08", "", shown).splitlines()
    assert len(lines) > 100
    assert [line for line in lines if len(line) > WIDTH] == []


def mandoc(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    return subprocess.run(["mandoc", *words], capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_what_is_typed_can_be_copied_from_a_page(name: str) -> None:
    """A bare hyphen, quote, accent or tilde becomes another character in some formatters."""
    assert [line for line in literal_lines(page(name)) if re.search(r"(?<!\\)[-'`^~]", line)] == []


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_refer_to_each_other_rightly(name: str) -> None:
    ours = {tuple(other.split(".")) for other in PAGES}
    named = set(re.findall(r"Xr (skyspool|spool|spoold) (\d)", page(name)))
    assert named == ours - {tuple(name.split("."))}


def test_the_pages_are_installed_where_man_looks() -> None:
    """man-db looks into ../share/man/manN beside each directory of PATH."""
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shared = data["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {f"man/{name}": f"share/man/man{name[-1]}/{name}" for name in PAGES}


# ---- spool(5)


def test_the_states_are_told_as_the_code_has_them() -> None:
    made = MADE.search(page("spool.5"))
    assert made, "the comment that begins the made part is gone"
    assert made[0] == made[1] + states_section(), "to make it anew: python -m tests.manual"


def test_the_diagram_shows_every_transition() -> None:
    lines = plain(diagram()).splitlines()[2:]
    assert [len(re.findall("[<>]", line)) for line in lines] == [len(ways) for ways in TRANSITIONS.values()]
    assert set(TRANSITIONS) == LIVE


@pytest.mark.parametrize("name", ["Settings", "Keep", "DeclaredNode"])
def test_every_setting_is_told_with_its_default(name: str) -> None:
    kind = getattr(settings, name)
    told = dict(re.findall(r"^\.It Ic (\S+) Pq (.+)$", marked(page("spool.5"), f"settings: {name}"), re.MULTILINE))
    assert list(told) == list(kind.__struct_fields__)
    for field in msgspec.structs.fields(kind):
        assert default_of(field.name, told[field.name]) == real_default(field), field.name


def default_of(name: str, told: str) -> object:
    """A default as the page tells it, as a value."""
    if told in ("required", "none", "everything", "found"):
        return told
    if name in settings._DURATION_KEYS:
        return settings.parse_duration(told, name)
    return settings.parse_size(told, name) if name == "max_file" else int(told) if told.isdigit() else told


def real_default(field: Any) -> object:
    if field.required:
        return "required"
    nothing = {"keep": "everything", "nodes": "none", "allow": "nobody", "admins": "nobody"}
    if field.name in nothing:
        value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        assert not value or value == settings.Keep()
        return nothing[field.name]
    if field.default is None:
        return "everything" if field.name in settings.Keep.__struct_fields__ else "found"
    return field.default


def test_the_example_of_spool_yaml_is_taken() -> None:
    (text,) = re.findall(r"^\.Bd -literal -offset indent\n(format: .*?)^\.Ed$", shown("spool.5"), re.M | re.DOTALL)
    read = settings.parse(text.encode(), "spool(5)")
    assert (read.name, read.grace, read.keep.logs_size, read.nodes["gpu1"].gpus) == ("lab", 10, 200 << 30, "H100:8")


def test_the_requests_of_the_page_are_understood() -> None:
    lines = [line for line in literal_lines(shown("spool.5")) if line.startswith("cancel:")]
    asked_for = [asked(Request("", "", 1, "ann"), line.encode()) for line in lines]
    assert [(request.targets, request.everything, request.problem) for request in asked_for] == [
        ((3,), "", ""),
        ((3, "train", "train@1j10mipqcd7c0d"), "", ""),
        ((), "mine", ""),
        ((), "all", ""),
    ]


RECORDS = (
    "Task", "Demand", "Allocation", "Gpu", "Leader", "Ledger", "Node", "GpuSlot", "Job", "Held", "Rejection",
    "NodeOwner", "Assigned", "Assignment", "NodeStatus", "Phase", "HeadStatus", "Remnant",
    "Enforced", "HolderNote",
)  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_told(name: str) -> None:
    told = items(marked(page("spool.5"), f"fields: {name}"), "Va")
    assert sorted(told) == sorted(getattr(records, name).__struct_fields__)


def test_every_record_on_disk_is_told() -> None:
    """Share is told with Node; the base of events has no fields."""
    found = [kind for module in (records, events) for kind in vars(module).values() if isinstance(kind, type)]
    shapes = {kind for kind in found if issubclass(kind, msgspec.Struct)}
    others = {kind.__name__ for kind in shapes if not issubclass(kind, Event)} - {"Struct", "Share"}
    assert others == set(RECORDS)


def test_every_event_is_told_with_its_fields() -> None:
    _, *parts = re.split(r"^\.It Ic ", marked(page("spool.5"), "events"), flags=re.MULTILINE)
    told = {part.split("\n", 1)[0]: words_of(part, "Va") for part in parts}
    real = {kind.__struct_config__.tag: set(kind.__struct_fields__) - {"at", "follows"} for kind in get_args(AnyEvent)}
    assert list(told) == list(real)
    assert told == real


def test_every_phase_is_told() -> None:
    told = items(marked(page("spool.5"), "phases"), "Li")
    documented = re.findall(r"^        (\w+)   ", str(records.Phase.__doc__), re.MULTILINE)
    assert told == documented
    assert set(told) >= records.GONE


def test_the_task_file_is_told_whole() -> None:
    text = page("spool.5")
    assert items(marked(text, "task: TASK"), "Ic") == list(fields.TASK)
    assert sorted(items(marked(text, "task: RESOURCES"), "Ic")) == sorted(fields.RESOURCES)
    for name in ("CLOUD_TASK", "CLOUD_RESOURCES"):
        real = {word for word in getattr(fields, name) if not word.startswith("_")}
        assert words_of(marked(text, f"ignored: {name}"), "Ic") == real


def test_every_variable_of_a_job_is_told() -> None:
    owner = environment.Owner(1, "ann", "/home/ann", "/bin/bash")
    a = Assignment(1, 1, "run", "", "", "", "ann", 1, 0, ["n"], ["a"], [], 0, 0, 0)
    words = dict.fromkeys(environment.Host._fields, "x") | {"indices": {}, "by_uuid": False}
    host = environment.Host(**words)  # type: ignore[arg-type]
    run = environment.run_environment(a, TaskSpec(), owner, host)
    setup = environment.setup_environment(a, TaskSpec(), owner, host)
    assert words_of(marked(page("spool.5"), "environment"), "Ev") == run.keys() | setup.keys()


def quoted(command: str) -> list[str]:
    """What the page shows below a command; folded lines are joined, and each record is one line again."""
    blocks = re.findall(rf"^\$ {command}\n(.*?)^(?:\.Ed|\$ .*)$", shown("spool.5"), re.MULTILINE | re.DOTALL)
    return ["".join(block.split("\n")).replace('{"event"', '\n{"event"').lstrip() for block in blocks]


def test_the_events_that_the_page_quotes_are_whole() -> None:
    blocks = quoted(r"cat lab/events/\d+\.jsonl")
    assert len(blocks) == 2
    for block in blocks:
        told, length = decode_events(f"{block}\n".encode())
        assert length == len(block) + 1
        assert [type(event) for event in (told[0], told[-1])] == [events.Sealed, events.Vouched]


def test_the_allocation_that_the_page_explains_follows_from_what_it_quotes() -> None:
    """The ledger before, and the events after it, give the ledger that the page shows next."""
    (ledger,), (tail, _) = quoted(r"cat lab/ledger\.json"), quoted(r"cat lab/events/\d+\.jsonl")
    state = State.from_ledger(records.decode(ledger.encode(), records.Ledger, "spool(5)"))
    for event in decode_events(f"{tail}\n".encode())[0]:
        state.apply(event)
    after = re.search(r'^"gpus":(\[\n.*?^\])$', shown("spool.5"), re.MULTILINE | re.DOTALL)
    assert after
    assert state.nodes["gpu1"].gpus == msgspec.json.decode("".join(after[1].split()), type=list[records.GpuSlot])


def test_every_promise_names_tests_that_are_there() -> None:
    text = section(page("spool.5"), "PROMISES")
    _, *promises = re.split(r"^\.It P\d+\n", text, flags=re.MULTILINE)
    assert re.findall(r"^\.It (P\d+)$", text, re.MULTILINE) == [f"P{number}" for number in range(1, 12)]
    for promise in promises:
        named = named_tests(promise)
        assert named and [name for name in named if name not in functions_of(name.partition("::")[0])] == [], promise


def named_tests(text: str) -> list[str]:
    """FILE::NAME of each test that a part of a page names: the file as an item, then its tests; a line that ends in `_`
    goes on in the next one."""
    named = []
    for part in text.split(".It Pa ")[1:]:
        file, *lines = part.split("\n")
        names = "\n".join(line.removeprefix(".Li ") for line in lines if line.startswith(".Li ")).replace("_\n", "_")
        named += [f"{file}::{name}" for name in names.split("\n")]
    return named


def functions_of(file: str) -> set[str]:
    """FILE::NAME of the tests that a file has."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {f"{file}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}


TRIES = 5  # a busy machine may need a second round where the page has one
DAY = re.compile(r"\d{4}-\d\d-\d\d")


def test_the_example_of_a_files_life_can_be_followed(tmp_path: Path) -> None:
    where = re.compile(r"\S+(?=/lab$)", re.MULTILINE)
    (file, text), *steps = example()
    assert file == "cat train.yaml"
    (tmp_path / "train.yaml").write_text(text)
    round_before = "true"
    try:
        for command, expected in steps:
            for _ in range(TRIES):
                told = DAY.sub("DAY", where.sub("WHERE", typed(tmp_path, command)))
                if told == DAY.sub("DAY", where.sub("WHERE", expected)):
                    break
                typed(tmp_path, round_before)
            else:
                pytest.fail(f"$ {command}\n{told}", pytrace=False)
            round_before = command if command.startswith("spoold") else round_before
    finally:
        end_starters(tmp_path)


def example() -> list[tuple[str, str]]:
    """The commands of the example, each with what it prints."""
    lines = section(shown("spool.5"), "LIFE OF A FILE")
    blocks = re.findall(r"^\.Bd -literal\n(.*?)^\.Ed$", lines, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)


def typed(folder: Path, command: str) -> str:
    """What a command line prints, with this source's programs and the daemons' memory in the folder."""
    python = shlex.quote(sys.executable)
    programs = f'skyspool() {{ {python} -m skyspool "$@"; }}; spoold() {{ {python} -m spoold "$@" --state state; }};'
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    run = subprocess.run(["bash", "-c", f"{programs} {command}"], cwd=folder, env=env, capture_output=True, text=True)
    return run.stdout


def end_starters(folder: Path) -> None:
    """They end by themselves, ten seconds after the last round."""
    for place in (Workplace(str(path)) for path in folder.glob("state/*/node-*")):
        if place.has_starter():
            os.kill(json.loads(Path(place.path, "starter.lock").read_text())["pid"], signal.SIGKILL)


# ---- skyspool(1) and spoold(8)


def names_of(command: click.Command, hidden: bool) -> set[str]:
    """Every spelling of a command's options; its help option is the group's."""
    found = [p for p in command.params if isinstance(p, click.Option) and p.hidden == hidden]
    return {word for option in found for word in [*option.opts, *option.secondary_opts]} - {"-h", "--help"}


def told_options(text: str) -> set[str]:
    """Every option that an item of a list tells: `.It Fl d , Fl -detach`."""
    lines = re.findall(r"^\.It (Fl .*)$", text, re.MULTILINE)
    return {f"-{word}" for line in lines for word in re.findall(r"Fl (\S+)", line)}


def verb(name: str) -> click.Command:
    command: click.Command = import_module(f"skyspool.verbs.{name}").command
    return command


def test_every_verb_has_its_section_in_the_order_of_the_help() -> None:
    sections = re.findall(r"^\.Ss (\S+)$", section(page("skyspool.1"), "VERBS"), re.MULTILINE)
    assert sections == list(VERBS)


@pytest.mark.parametrize("name", [name for name in VERBS if name != "launch"])
def test_every_option_of_a_verb_is_told_and_no_other(name: str) -> None:
    assert told_options(section(page("skyspool.1"), name)) == names_of(verb(name), hidden=False)


def test_the_options_that_exec_ignores_are_told() -> None:
    text = marked(section(page("skyspool.1"), "exec"), "ignored options")
    assert {f"-{word}" for word in re.findall(r"Fl (\S+)", text)} == names_of(verb("exec"), hidden=True)


def test_launch_has_the_options_of_exec_and_those_that_are_told() -> None:
    assert names_of(verb("launch"), hidden=True) == names_of(verb("exec"), hidden=True)
    more = told_options(section(page("skyspool.1"), "launch"))
    assert names_of(verb("launch"), hidden=False) == names_of(verb("exec"), hidden=False) | more


@pytest.mark.parametrize("name", list(VERBS))
def test_the_synopsis_names_every_verb_with_its_arguments(name: str) -> None:
    assert re.search(rf"^\.Cm {name}$", section(page("skyspool.1"), "SYNOPSIS"), re.MULTILINE)


@pytest.mark.parametrize("name", ["head", "node", "fsck", "recover"])
def test_every_option_of_a_daemon_is_told_and_no_other(name: str) -> None:
    from spoold.__main__ import main

    text = section(page("spoold.8"), name)
    assert told_options(text) == names_of(main.commands[name], hidden=False)


def test_the_options_of_all_daemons_are_told() -> None:
    from spoold.__main__ import main

    assert told_options(section(page("spoold.8"), "Options of both")) == names_of(main, hidden=False) | {"-h", "--help"}


def exit_codes(text: str) -> set[int]:
    return {int(code) for code in re.findall(r"^\.It (\d+)$", section(text, "EXIT STATUS"), re.MULTILINE)}


def error_codes(*packages: str) -> set[int]:
    """The exit codes of every error that a module of these packages makes."""
    for package in packages:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    kinds = {errors.SpoolError}
    while more := {sub for kind in kinds for sub in kind.__subclasses__()} - kinds:
        kinds |= more
    return {kind.exit_code for kind in kinds if kind.__module__.split(".")[0] in packages}


def test_the_exit_codes_of_the_client_are_told() -> None:
    real = {*EXIT_CODES.values(), EXIT_NOT_FOUND, *error_codes("spool_layout", "skyspool"), INTERRUPTED, BROKEN_PIPE}
    assert exit_codes(page("skyspool.1")) == real


def test_the_exit_codes_of_the_daemons_are_told() -> None:
    assert exit_codes(page("spoold.8")) == {0, *error_codes("spool_layout", "spoold"), errors.EXIT_IO}


def test_sections_that_a_page_points_to_are_there() -> None:
    for name in PAGES:
        titles = set(re.findall(r"^\.S[hs] (.*)$", page(name), re.MULTILINE))
        pointed = {title.strip() for title in re.findall(r"^\.Sx (.*?)(?: [.,)].*)?$", page(name), re.MULTILINE)}
        assert pointed <= titles
