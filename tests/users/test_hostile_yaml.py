"""Files made to cost: each is judged within bounds of time and memory, whatever is in it.

All are read in one child process, so that a crash of the C loader fails a test and not the run, and so that the peak
of its memory can be seen for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spool_layout.errors import BadSettings
from spool_layout.events import Requested
from spool_layout.settings import Settings, parse
from spool_layout.states import Status
from tests.head.conftest import folder as folder
from tests.head.stage import CPU, Stage

SIZE = 16 * 1024 * 1024 - 100  # bytes: the most that spool.yaml can allow
SECONDS, MEMORY = 4.0, 200  # of CPU; MiB beyond what the child has before

# Each is Python that makes the text `t`; `fill(unit)` repeats a unit up to SIZE.
TEXTS = {
    "16 MiB of small scalars": "t = b'envs: [' + fill(b'a,') + b']'",
    "16 MiB of lines": "t = b'run: |\\n' + fill(b'  echo\\n')",
    "16 MiB of one word": "t = b'run: ' + fill(b'x')",
    "16 MiB beyond the first plane": "t = b'run: ' + fill('\\U0001f600'.encode())",
    "16 MiB in a quote that is not closed": "t = b'run: \"' + fill(b'x\\\\n')",
    "16 MiB of blank lines": "t = fill(b'\\n') + b'run: x\\n'",
    "a key of 16 MiB": "t = b'? ' + fill(b'x') + b'\\n: y\\n'",
    "an anchor of 16 MiB": "t = b'run: &' + fill(b'a') + b' x\\n'",
    "a tag of 16 MiB": "t = b'run: !' + fill(b'a') + b' x\\n'",
    "a comment of 16 MiB": "t = b'#' + fill(b'x') + b'\\nrun: x\\n'",
    "an alias bomb": "t = bomb('[', ']')",
    "a merge bomb": "t = bomb('{<<: [', ']}', '{k: 1}')",
    "an alias of itself": "t = b'run: &a [*a]\\n'",
    "100,000 deep in lists": "t = b'run: ' + b'[' * 100_000",
    "100,000 deep in mappings": "t = b'run: ' + b'{a: ' * 100_000",
    "100,000 deep in items": "t = b'- ' * 100_000",
    "100,000 deep in keys": "t = b'? ' * 100_000",
    "16 MiB deep": "t = fill(b'[')",
    "60,000 handles of tags": "t = b''.join(b'%%TAG !e%d! tag:x\\n' % n for n in range(60_000)) + b'---\\nrun: x\\n'",
    "a number of 5,000 digits": "t = b'num_nodes: ' + b'9' * 5_000",
    "a number of 16 MiB": "t = b'num_nodes: ' + fill(b'9')",
    "16,000 long words": "t = b'envs:\\n' + b''.join(b' A%d: 9%s\\n' % (n, b':59' * 320) for n in range(16_000))",
    "24,000 times base 60": "t = b'envs:\\n' + b''.join(b' A%d: 9%s\\n' % (n, b':59' * 95) for n in range(24_000))",
    "keys that stand twice": "t = fill(b'a: b\\n')",
    "ports without end": "t = b'resources: {ports: \"' + b'1-2,' * 3_000_000 + b'x\"}\\n'",
    "accelerators without end": "t = b'resources: {accelerators: \"' + b'a:' * 3_000_000 + b'1\"}\\n'",
    "a Python object": "t = b'run: !!python/object/apply:os.system [\"touch owned\"]\\n'",
    "NUL": "t = b'run: a\\0b\\n'",
    "half of a surrogate pair": "t = b'run: \"\\\\ud800\"\\n'",
    "UTF-16": "t = 'run: x\\n'.encode('utf-16')",
    "dates": "t = b'envs: {A: 2026-11-24, B: 2026-11-24 10:00:00.5 +1, C: 12:30:45}\\nrun: x\\n'",
}
CHILD = """
import json, resource, sys, time
from spool_layout.taskfile import InvalidTask, parse_task
SIZE, names = int(sys.argv[1]), json.load(sys.stdin)

def fill(unit): return unit * (SIZE // len(unit) - 10)

def bomb(opening, closing, first='[x]'):
    lines = [f'a0: &a0 {first}']
    for n in range(1, 30): lines.append(f'a{n}: &a{n} {opening}' + ', '.join([f'*a{n - 1}'] * 9) + closing)
    return '\\n'.join(lines).encode()

def status(word):
    return int(next(l for l in open('/proc/self/status') if l.startswith(word)).split()[1]) / 1024

for name, code in names.items():
    made = {'fill': fill, 'bomb': bomb}
    exec(code, made)
    print(json.dumps([name, 'begun']), flush=True)
    open('/proc/self/clear_refs', 'w').write('5')  # the peak begins anew
    before, began = status('VmRSS'), time.process_time()
    try:
        said = repr(parse_task(made['t'], require_absolute_workdir=True).envs)[:200]
    except InvalidTask as error:
        said = f'refused: {error.message}'
    took = time.process_time() - began
    print(json.dumps([name, took, status('VmHWM') - before, said]), flush=True)
    made = None
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """name -> [CPU seconds, MiB, what was said]."""
    command = [sys.executable, "-c", CHILD, str(SIZE)]
    where = tmp_path_factory.mktemp("child")
    ran = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, timeout=110, cwd=where, env={
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[2])
    })  # fmt: skip
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    told = {line[0]: line[1:] for line in found if line[1] != "begun"}
    assert ran.returncode == 0, f"died of {found[-1][0]}: {ran.returncode} {ran.stderr[-500:]}"
    assert os.listdir(where) == [], "something of a file was carried out"
    return told


def test_no_file_costs_more_than_a_few_seconds_and_a_bounded_part_of_memory(judged: dict[str, list[Any]]) -> None:
    """One test for all: the child is started once, whoever runs the tests beside it."""
    assert judged.keys() == TEXTS.keys()
    for name, (seconds, memory, said) in judged.items():
        print(f"{name}: {seconds:.2f} s, {memory:.0f} MiB: {said[:100]}")
    assert {name: seconds for name, (seconds, _, _) in judged.items() if seconds > SECONDS} == {}
    assert {name: memory for name, (_, memory, _) in judged.items() if memory > MEMORY} == {}
    assert {name: said for name, (_, _, said) in judged.items() if len(said) > 2000} == {}


def test_what_is_no_text_stays_the_text_that_it_is(judged: dict[str, list[Any]]) -> None:
    assert judged["dates"][2] == "{'A': '2026-11-24', 'B': '2026-11-24 10:00:00.5 +1', 'C': '45045'}"
    for name in ("a Python object", "NUL", "half of a surrogate pair", "UTF-16", "an alias of itself"):
        assert judged[name][2].startswith("refused: "), name


# ---- the same elsewhere

BAD = {
    "deep": "[" * 100_000,
    "deep in mappings": "{a: " * 50_000,
    "an alias bomb": "a: &a [x,x]\nb: &b [*a,*a,*a]\n" + "".join(
        f"{chr(c)}: &{chr(c)} [{','.join(['*' + chr(c - 1)] * 9)}]\n" for c in range(ord("c"), ord("p"))
    ),
    "a merge bomb": "a: &a {k: 1}\nb: &b {<<: [*a,*a]}\n" + "".join(
        f"{chr(c)}: &{chr(c)} {{<<: [{','.join(['*' + chr(c - 1)] * 9)}]}}\n" for c in range(ord("c"), ord("p"))
    ),
    "digits": "poll: " + "9" * 5000,
    "tag": "poll: !!python/object/apply:os.system [id]",
    "twice": "poll: 1\npoll: 2\n",
    "NUL": "name: a\0b\n",
    "infinite": "poll: .inf\n",
    "no number": "poll: .nan\n",
    "a list": "- poll\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_spool_yaml_is_an_error_in_words(name: str) -> None:
    with pytest.raises(BadSettings) as told:
        parse(
            f"format: 1\nid: x\nname: n\n{BAD[name]}".encode() if name != "a list" else BAD[name].encode(), "spool.yaml"
        )
    assert len(told.value.message) < 500


def test_limits_that_make_no_sense_are_refused() -> None:
    good = b"format: 1\nid: x\nname: n\n"
    for line in (b"max_file: 17MiB", b"max_file: 0", b"max_pending: -1", b"max_requests: many", b"max_pending: 1.5"):
        with pytest.raises(BadSettings, match=line.split(b":")[0].decode()):
            parse(good + line, "spool.yaml")
    assert parse(good + b"max_pending: 0\nmax_requests: 5\nmax_file: 64k", "spool.yaml") == Settings(
        1, "x", "n", max_pending=0, max_requests=5, max_file=65536
    )


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_request_is_refused_and_the_next_one_carried_out(name: str, folder: Path) -> None:
    stage = Stage(folder)
    stage.drop("a", CPU)
    stage.request(BAD[name], "a.yaml")
    stage.request("cancel: a", "b.yaml")
    stage.look()
    first, second = [event for event in stage.events() if isinstance(event, Requested)]
    assert first.reason and len(first.reason) < 500 and not first.ids
    assert second.ids == [1] and stage.job("a").status is Status.CANCELLED


def test_a_request_that_is_larger_than_any_is_refused_unread(folder: Path) -> None:
    stage = Stage(folder)
    stage.request("cancel: [" + "1," * 60_000 + "]", "a.yaml")
    stage.look()
    (told,) = [event for event in stage.events() if isinstance(event, Requested)]
    assert "at most 65536" in told.reason
