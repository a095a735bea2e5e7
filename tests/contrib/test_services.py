"""The systemd units and the crontab: what they start is what these programs take, and their own checkers agree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from spool_layout import errors
from tests.e2e.cluster import running

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = sorted(CONTRIB.glob("systemd/*/*.service"))
CRONTAB = CONTRIB / "cron" / "skyspool.crontab"
SPOOLD = str(Path(sys.executable).with_name("spoold"))


def unit_id(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def parsed(path: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    return unit


def test_there_is_a_head_and_a_node_for_the_system_and_for_a_user() -> None:
    assert [unit_id(unit) for unit in UNITS] == [
        "system/skyspool-head@.service",
        "system/skyspool-node@.service",
        "user/skyspool-head@.service",
        "user/skyspool-node@.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=unit_id)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the units are NOT verified")
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={SPOOLD}", unit.read_text(), flags=re.MULTILINE)
    (tmp_path / unit.name).write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", f"--{unit.parent.name}", "--man=no", f"./{unit.name}"],
        cwd=tmp_path,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = [line for line in (verified.stdout + verified.stderr).splitlines() if "skyspool" in line]
    assert (verified.returncode, told) == (0, []), verified.stderr


@pytest.mark.parametrize("unit", UNITS, ids=unit_id)
def test_what_a_unit_starts_is_understood(unit: Path, tmp_path: Path) -> None:
    """Run on a directory that is no spool: the command line was right if that is all there is to complain of."""
    place = tmp_path / "no spool"
    specifiers = {"%f": str(place), "%i": r"no\x20spool", "%S": str(tmp_path), "%h": "/home/me"}
    words = parsed(unit)["Service"]["ExecStart"].split()
    program, *words = [re.sub("%.", lambda found: specifiers[found[0]], word) for word in words]
    assert program in ("/usr/local/bin/spoold", "/home/me/.local/bin/spoold")  # where `make install` puts it
    ended = subprocess.run([SPOOLD, *words], capture_output=True, text=True, timeout=30)
    assert ended.returncode == errors.NotASpool.exit_code
    assert f"{place} holds no spool.yaml" in ended.stderr


@pytest.mark.parametrize("unit", UNITS, ids=unit_id)
def test_a_unit_is_started_again_unless_a_person_has_to_look(unit: Path) -> None:
    service = parsed(unit)["Service"]
    assert service["Restart"] == "on-failure"
    final = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert final == {errors.EXIT_USAGE, errors.Damaged.exit_code, errors.EXIT_CONFIG}
    assert errors.EXIT_UNAVAILABLE not in final, "a share that is away comes back"
    assert parsed(unit)["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "node" in unit.name], ids=unit_id)
def test_stopping_a_node_leaves_its_jobs_alone(unit: Path) -> None:
    service = parsed(unit)["Service"]
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert not {"PrivateTmp", "PrivateDevices", "NoNewPrivileges", "ProtectHome"} & set(service)


# ---- cron


def crontab() -> tuple[dict[str, str], list[str]]:
    """The variables and the commands of the crontab; every command runs each minute."""
    variables, commands = {}, []
    for line in CRONTAB.read_text().splitlines():
        if line.startswith("* * * * *  "):
            commands.append(line.removeprefix("* * * * *  "))
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            variables[name] = value
    return variables, commands


def test_crontab_finds_nothing_wrong() -> None:
    if shutil.which("crontab") is None:
        pytest.skip("crontab is not installed: the crontab is NOT checked by it")
    if "-n" not in subprocess.run(["crontab", "-h"], capture_output=True, text=True, timeout=10).stderr:
        pytest.skip("this crontab has no dry run: the crontab is NOT checked by it")
    checked = subprocess.run(["crontab", "-n", str(CRONTAB)], capture_output=True, text=True, timeout=10)
    assert checked.returncode == 0, checked.stderr


def test_the_lines_of_the_crontab_run_a_job_to_its_end(tmp_path: Path) -> None:
    variables, commands = crontab()
    assert set(variables) == {"SHELL", "PATH", "SPOOL"}
    assert [shlex.split(command)[2:4] for command in commands] == [["head", "--once"], ["node", "--once"]]
    assert not any("%" in command for command in commands), "cron makes a newline of it"
    with running(tmp_path, settle="0.1s") as cluster:
        cluster.drop("job.yaml", f"workdir: {tmp_path}\nrun: echo by cron\n...\n")
        env = {
            **variables,
            "SPOOL": cluster.spool.root,
            "PATH": f"{Path(SPOOLD).parent}:{variables['PATH']}",
            "HOME": os.environ["HOME"],
            "LOGNAME": "me",
            "SKYSPOOL_TEST_RUN": os.environ["SKYSPOOL_TEST_RUN"],
        }
        local = f" --state {tmp_path}/state"
        for command in ["head", "node", "head", "node", "head"]:
            line = next(line for line in commands if f" {command} " in line) + local
            ended = subprocess.run(
                [variables["SHELL"], "-c", line], env=env, capture_output=True, text=True, timeout=30
            )
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert cluster.statuses() == {1: "SUCCEEDED"}
        assert cluster.log(1) == "by cron\n"
