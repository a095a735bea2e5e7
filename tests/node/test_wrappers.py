"""What a job's `docker` and `podman` make of a command line, and what containers find inside.

The wrapper translates words into words, so most tests put a program in the engine's place that writes down its words.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node.engines import GPUS, IMAGE, LOGIN_PATH, WRAPPERS, Engine

pytest_plugins = ["tests.node.engine_fixtures"]

A, B, C = "GPU-aa-1", "GPU-bb-2", "GPU-cc-3"
RECORDER = """#!/bin/sh
test "$2" != --help || exec cat help
printf '%s\\0' "$0" "$@" >words
env -0 >environment
"""
LABEL = "--label skyspool.attempt=spool7/3.1"


class Job:
    """A job that may call engines. Its GPUs are the host's 2 and up."""

    def __init__(self, folder: Path, gpus: list[str], **env: str) -> None:
        self.folder, self.attempt = folder, folder / "3.1"
        self.attempt.mkdir()
        (folder / "bin").mkdir()
        for name in ("docker", "podman"):
            self.program(f"bin/{name}", RECORDER)
        self.env = {
            "PATH": f"{WRAPPERS}:{folder}/bin:{LOGIN_PATH}",
            "HOME": "/home/ann",
            "SKYSPOOL_ATTEMPT": "3.1",
            "SKYSPOOL_ATTEMPT_DIR": str(self.attempt),
            "SKYSPOOL_SPOOL_ID": "spool7",
            "SKYSPOOL_GPU_UUIDS": ",".join(gpus),
            "CUDA_VISIBLE_DEVICES": ",".join(str(2 + number) for number in range(len(gpus))),
            **env,
        }

    def program(self, name: str, text: str) -> Path:
        """Put a program into the job's directory."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def call(self, line: str) -> subprocess.CompletedProcess[str]:
        """Call an engine as the job's shell does, by name."""
        words = shlex.split(line)
        program = shutil.which(words[0], path=self.env["PATH"])
        assert program is not None
        return subprocess.run(
            [program, *words[1:]], env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=30
        )

    def reaches(self, line: str) -> str:
        """The command line with which the engine was called, its path left out."""
        done = self.call(line)
        assert done.returncode == 0, done.stderr
        path, *words = (self.folder / "words").read_text().split("\0")[:-1]
        return shlex.join([os.path.basename(path), *words])

    def environment(self) -> dict[str, str]:
        """The environment of the last call of an engine."""
        lines = (self.folder / "environment").read_text().split("\0")[:-1]
        return dict(line.split("=", 1) for line in lines)

    def refusal(self, line: str) -> str:
        """What the job is told, where no engine is called."""
        done = self.call(line)
        assert (done.returncode, (self.folder / "words").exists()) == (125, False)
        return done.stderr

    def notes(self) -> list[dict[str, object]]:
        """How the engines were called, as the node reads it."""
        return [json.loads(line, strict=False) for line in (self.attempt / "containers").read_text().splitlines()]


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(gpus: list[str], **env: str) -> Job:
        return Job(tmp_path, gpus, **env)

    return make


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    """A job with two GPUs."""
    return make_job([A, B])


def expected(line: str) -> str:
    """A command line in which LABEL, INSIDE and ALL stand for what the wrapper adds."""
    line = line.replace("LABEL", LABEL).replace("INSIDE", "--env CUDA_VISIBLE_DEVICES")
    return shlex.join(shlex.split(line.replace("ALL", f'"device={A},{B}"')))


TRANSLATED = [
    # all that the job has, however it is asked for
    ("docker run --gpus all img", "docker run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker run --gpus=all img", "docker run LABEL INSIDE=0,1 --gpus='ALL' img"),
    ("docker create --gpus=-1 img", "docker create LABEL INSIDE=0,1 --gpus='ALL' img"),
    ("docker run --gpus device=all img", "docker run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker run --gpus 2 img", "docker run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker run --gpus count=2 img", "docker run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    # the job's CUDA_VISIBLE_DEVICES, which counts as the host does, handed on
    ("docker run --gpus '\"device=2,3\"' img", "docker run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker run --gpus all -e CUDA_VISIBLE_DEVICES=2,3 img",
     "docker run LABEL INSIDE=0,1 --gpus 'ALL' -e CUDA_VISIBLE_DEVICES=0,1 img"),
    ("docker run -ite CUDA_VISIBLE_DEVICES=2,3 -eCUDA_VISIBLE_DEVICES=2,3 --env=CUDA_VISIBLE_DEVICES=2,3 --gpus 1 img",
     f"docker run LABEL INSIDE=0 -ite CUDA_VISIBLE_DEVICES=0 -eCUDA_VISIBLE_DEVICES=0 --env=CUDA_VISIBLE_DEVICES=0"
     f" --gpus '\"device={A}\"' img"),
    # a part of it
    ("docker run --gpus 1 img", f"docker run LABEL INSIDE=0 --gpus '\"device={A}\"' img"),
    ("docker run --gpus device=1 img", f"docker run LABEL INSIDE=0 --gpus '\"device={B}\"' img"),
    ("docker run --gpus '\"device=1,0\"' img", f"docker run LABEL INSIDE=0,1 --gpus '\"device={B},{A}\"' img"),
    (f"docker run --gpus device={B} img", f"docker run LABEL INSIDE=0 --gpus '\"device={B}\"' img"),
    ("docker run --gpus capabilities=utility img",
     f"docker run LABEL INSIDE=0 --gpus '\"device={A}\",\"capabilities=utility\"' img"),
    ("docker run --gpus 'all,\"capabilities=compute,utility\"' img",
     "docker run LABEL INSIDE=0,1 --gpus 'ALL,\"capabilities=compute,utility\"' img"),
    # none
    ("docker run img", "docker run LABEL img"),
    ("docker run --rm -it -v /a:/b -e CUDA_VISIBLE_DEVICES=2,3 img sh -c 'a  b'",
     "docker run LABEL --rm -it -v /a:/b -e CUDA_VISIBLE_DEVICES=2,3 img sh -c 'a  b'"),
    ("docker run --gpus 0 img", "docker run LABEL img"),
    # what follows the image is the container's
    ("docker run img train --gpus all", "docker run LABEL img train --gpus all"),
    ("docker run -- img --gpus all", "docker run LABEL -- img --gpus all"),
    ("docker run --gpus 1 img --gpus=all", f"docker run LABEL INSIDE=0 --gpus '\"device={A}\"' img --gpus=all"),
    # a value may look like an option or like a command
    ("docker run -v --gpus --name run -e --gpus --entrypoint=--gpus --gpus all img",
     "docker run LABEL INSIDE=0,1 -v --gpus --name run -e --gpus --entrypoint=--gpus --gpus 'ALL' img"),
    ("docker run -dp 80:80 -u0 -e=A=1 -m 4g --shm-size 1g --ipc=host --gpus all img",
     "docker run LABEL INSIDE=0,1 -dp 80:80 -u0 -e=A=1 -m 4g --shm-size 1g --ipc=host --gpus 'ALL' img"),
    ("docker run --name '' --label 'two words' --gpus all img ''",
     "docker run LABEL INSIDE=0,1 --name '' --label 'two words' --gpus 'ALL' img ''"),
    # options before the command
    ("docker --context run -H tcp://h:1 -D --log-level=error run --gpus all img",
     "docker --context run -H tcp://h:1 -D --log-level=error run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker -c x container run --gpus all img", "docker -c x container run LABEL INSIDE=0,1 --gpus 'ALL' img"),
    ("docker container create img", "docker container create LABEL img"),
    # a container that sees the host's devices
    ("docker run --privileged --gpus 1 img",
     f"docker run LABEL INSIDE={A} --privileged --gpus '\"device={A}\"' img"),
    ("docker run --privileged=false --gpus 1 img",
     f"docker run LABEL INSIDE=0 --privileged=false --gpus '\"device={A}\"' img"),
    # podman: devices by CDI
    ("podman run --gpus all img",
     f"podman run LABEL INSIDE=0,1 --device nvidia.com/gpu={A} --device nvidia.com/gpu={B} img"),
    ("podman --runtime runc --log-level=debug container run --rm --gpus=device=1 img",
     f"podman --runtime runc --log-level=debug container run LABEL INSIDE=0 --rm --device nvidia.com/gpu={B} img"),
    ("podman run --device nvidia.com/gpu=all --device /dev/fuse img",
     f"podman run LABEL INSIDE=0,1 --device nvidia.com/gpu={A} --device nvidia.com/gpu={B} --device /dev/fuse img"),
    ("podman create --device=nvidia.com/gpu=1 img", f"podman create LABEL INSIDE=0 --device nvidia.com/gpu={B} img"),
    ("podman run --log-level debug --rootfs --gpus 1 /dir cmd --gpus 1",
     f"podman run LABEL INSIDE=0 --log-level debug --rootfs --device nvidia.com/gpu={A} /dir cmd --gpus 1"),
    ("podman run --env-host --replace --gpus 0 img", "podman run LABEL --env-host --replace img"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reached"), TRANSLATED, ids=[line for line, _ in TRANSLATED])
def test_gpus_become_the_jobs_devices_and_all_else_stays(job: Job, line: str, reached: str) -> None:
    assert job.reaches(line) == expected(reached)


@pytest.mark.parametrize(
    "line",
    [
        "docker",
        "docker --version",
        "docker ps --gpus all",
        "docker exec -e X=1 c run --gpus all",
        "docker compose run --gpus all web",
        "docker build --network none .",
        "docker start c",
        "docker container ls --all",
        "docker --context run ps",
        "podman pod create --name run",
        "podman kube play run",
    ],
)
def test_other_commands_reach_the_engine_as_they_are(job: Job, line: str) -> None:
    assert job.reaches(line) == line
    assert not (job.attempt / "containers").exists()


@pytest.mark.parametrize("line", ["docker run --gpus", "docker run -it -e", "docker run"])
def test_an_incomplete_command_is_left_for_the_engine_to_refuse(job: Job, line: str) -> None:
    assert job.reaches(line) == line.replace("docker run", f"docker run {LABEL}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--gpus 3", "--gpus 3: job 3 has 2 GPUs"),
        ("--gpus device=2", "device=0 to device=1: devices are counted within the job"),
        (f"--gpus device={C}", f"--gpus device={C}: job 3 has 2 GPUs"),
        ("--gpus device=", "job 3 has 2 GPUs"),
        ("--gpus device=GPU-aa", "job 3 has 2 GPUs"),
        ("--gpus '\"device=0,,1\"'", "job 3 has 2 GPUs"),
        ("--gpus device=0:0", "job 3 has 2 GPUs"),
        ("--gpus 9223372036854775809", "cannot read --gpus 9223372036854775809"),
        ("--gpus some", "cannot read --gpus some"),
        ("--gpus ''", "cannot read --gpus"),
        ("--gpus '\"device=0'", "cannot read --gpus"),
        ("--gpus driver=cdi,device=nvidia.com/gpu=all", "cannot read --gpus"),
        ("--gpus device=0,1", "says two things\nhint: several devices are quoted twice: '\"device=0,1\"'"),
        ("--device nvidia.com/gpu=7", "--device nvidia.com/gpu=7: job 3 has 2 GPUs"),
        ("--unheard-of --gpus all", "neither skyspool nor docker's help knows the option --unheard-of"),
        ("-itX --gpus all", "knows the option -itX"),
    ],
)
def test_more_than_the_job_has_is_refused(job: Job, options: str, told: str) -> None:
    assert told in job.refusal(f"docker run {options} img")


@pytest.mark.parametrize("options", ["--gpus all", "--gpus=1", "--gpus device=0", "--device nvidia.com/gpu=all"])
def test_a_job_without_gpus_is_told_so(make_job: MakeJob, options: str) -> None:
    told = make_job([]).refusal(f"podman run {options} img")
    assert told.endswith(": job 3 has no GPU\nhint: ask for GPUs in the task: resources: {accelerators: H100:1}\n"), (
        told
    )


def test_a_job_without_gpus_may_run_containers_without(make_job: MakeJob) -> None:
    assert make_job([]).reaches("docker run --gpus 0 img") == f"docker run {LABEL} img"


def test_uuids_stay_uuids_inside(make_job: MakeJob) -> None:
    job = make_job([A, B], CUDA_VISIBLE_DEVICES=f"{A},{B}")
    assert job.reaches("docker run --gpus all img") == expected(f"docker run LABEL INSIDE={A},{B} --gpus 'ALL' img")
    assert job.reaches("docker run --gpus 1 img") == expected(
        f"docker run LABEL INSIDE={A} --gpus '\"device={A}\"' img"
    )


def test_mig_devices_are_told_by_uuid(make_job: MakeJob) -> None:
    job = make_job(["MIG-d-1"], CUDA_VISIBLE_DEVICES="MIG-d-1")
    assert job.reaches("podman run --gpus all img") == expected(
        "podman run LABEL INSIDE=MIG-d-1 --device nvidia.com/gpu=MIG-d-1 img"
    )


def test_setup_commands_have_no_cuda_visible_devices_and_get_the_same(job: Job) -> None:
    del job.env["CUDA_VISIBLE_DEVICES"]
    assert job.reaches("docker run --gpus all img") == expected("docker run LABEL INSIDE=0,1 --gpus 'ALL' img")


def test_a_variable_that_is_handed_on_by_name_is_the_containers(job: Job) -> None:
    job.reaches("docker run --gpus all -e CUDA_VISIBLE_DEVICES img")
    assert job.environment()["CUDA_VISIBLE_DEVICES"] == "0,1"
    job.reaches("docker run -e CUDA_VISIBLE_DEVICES img")
    assert job.environment()["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_part_of_cuda_visible_devices_is_not_taken_for_all_of_it(job: Job) -> None:
    job.env["CUDA_VISIBLE_DEVICES"] = "1"  # a loop over GPUs, counting for itself
    assert job.reaches("docker run --gpus device=1 -e CUDA_VISIBLE_DEVICES=1 img") == expected(
        f"docker run LABEL INSIDE=0 --gpus '\"device={B}\"' -e CUDA_VISIBLE_DEVICES=1 img"
    )


def test_the_engine_gets_the_jobs_environment_unchanged(job: Job) -> None:
    job.env |= {"word": "w", "path": "p", "name": "n", "IFS": "x", "BASH_ENV": "/nonexistent", "SHELLOPTS": "xtrace"}
    done = job.call("docker run img")
    assert (done.returncode, done.stderr) == (0, "")
    ours = {"_", "PWD", "SHLVL", "OLDPWD", "SHELLOPTS", "IFS"}  # of any shell
    seen = {name: value for name, value in job.environment().items() if name not in ours}
    assert seen == {name: value for name, value in job.env.items() if name not in ours}


# ---- finding the engine


def test_the_wrapper_is_skipped_wherever_it_stands_on_path(job: Job, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(WRAPPERS)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/docker").symlink_to(WRAPPERS / "docker")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/docker").write_text("not a program")
    (tmp_path / "folder/docker").mkdir(parents=True)
    copied = shutil.copytree(WRAPPERS, tmp_path / "of another installation")
    path = [WRAPPERS, f"{WRAPPERS}/", *(tmp_path / name for name in ("link", "links", "plain", "folder")), copied]
    for first in (0, 2, 3, 6):
        job.env["PATH"] = ":".join(map(str, [*path[first:], *path[:first], tmp_path / "bin", "/usr/bin", "/bin"]))
        assert job.reaches("docker run img") == f"docker run {LABEL} img"


def test_a_missing_engine_is_told_as_a_shell_tells_it(job: Job) -> None:
    job.env["PATH"] = f"{WRAPPERS}:/nonexistent"
    done = job.call("docker run img")
    assert (done.returncode, done.stderr) == (127, "skyspool: docker: no such program on PATH\n")


@pytest.mark.parametrize("kind", ["script", "link"])
def test_a_docker_that_is_podman_gets_podmans_devices(job: Job, kind: str) -> None:
    (job.folder / "bin/docker").unlink()
    if kind == "link":
        (job.folder / "bin/docker").symlink_to("podman")
    else:  # as the package podman-docker has it
        job.program("bin/docker", f'#!/bin/sh\ntest -e nodocker || :\nexec {job.folder}/bin/podman "$@"\n')
    assert job.reaches("docker run --gpus 1 img").split(" ", 1)[1] == expected(
        f"run LABEL INSIDE=0 --device nvidia.com/gpu={A} img"
    )
    assert [(note["engine"], note["path"]) for note in job.notes()] == [("podman", f"{job.folder}/bin/docker")]


def test_outside_a_job_it_changes_nothing(job: Job) -> None:
    job.env = {"PATH": job.env["PATH"]}
    assert job.reaches("docker run --gpus all img") == "docker run --gpus all img"


def test_options_that_are_new_are_looked_up_in_the_engines_help(job: Job) -> None:
    (job.folder / "help").write_text(
        "  -z, --new-value string     Set something,\n"
        "                             or --new-switch\n"
        "      --new-switch           Do something --new-value\n"
        "      --new-bare\n"
        "      --new-value-too [a-z]  Set more\n"
    )
    line = "docker run --new-value --gpus --new-switch --new-bare --new-value-too x --gpus 1 img --gpus all"
    assert job.reaches(line) == expected(
        "docker run LABEL INSIDE=0 --new-value --gpus --new-switch --new-bare --new-value-too x"
        f" --gpus '\"device={A}\"' img --gpus all"
    )


@pytest.mark.parametrize("line", ["docker run", "docker create", "docker", "podman run", "podman create", "podman"])
def test_the_options_known_here_are_as_the_installed_engine_has_them(line: str) -> None:
    if shutil.which(line.split()[0]) is None:
        pytest.skip(f"{line} is not installed: what is known of its options is NOT compared")
    listed = subprocess.run([*line.split(), "--help"], capture_output=True, text=True, check=True).stdout
    told = dict(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)( \S)?", listed, re.MULTILINE))
    before = "global_" if " " not in line else ""
    text = (WRAPPERS / "docker").read_text()
    known = {kind: re.search(rf"^sky_{before}{kind}='([^']*)'", text, re.MULTILINE) for kind in ("valued", "switches")}
    words = {kind: set(match[1].split()) for kind, match in known.items() if match}
    assert len(told) > 8
    assert {name for name, value in told.items() if value} <= words["valued"]
    assert {name for name, value in told.items() if not value} <= words["switches"]


# ---- what the node is told


def test_the_node_is_told_how_an_engine_is_called_before_it_is(job: Job) -> None:
    job.program("bin/docker", "#!/bin/sh\ncp 3.1/containers seen\n")
    job.env |= {"DOCKER_HOST": "tcp://h:1", "XDG_RUNTIME_DIR": "/run/user/7", "TOKEN": "secret"}
    for _ in range(2):
        job.call("docker --context 'my \"x\\y\n' run --gpus all img")
    assert (job.folder / "seen").read_text() == (job.attempt / "containers").read_text()
    assert job.notes() == [
        {
            "engine": "docker",
            "path": f"{job.folder}/bin/docker",
            "flags": ["--context", 'my "x\\y\n'],
            "cwd": str(job.folder),
            "env": {
                "HOME": "/home/ann",
                "PATH": job.env["PATH"],
                "DOCKER_HOST": "tcp://h:1",
                "XDG_RUNTIME_DIR": "/run/user/7",
            },
        }
    ]


def test_podmans_global_options_count_wherever_they_stand(job: Job) -> None:
    job.call("podman --runtime runc container --root /r run -it --log-level debug --name c img --runroot x")
    assert job.notes()[0]["flags"] == ["--runtime", "runc", "--root", "/r", "--log-level", "debug"]


@pytest.mark.parametrize("said", ["stop", "outcome"])
def test_a_job_that_is_being_ended_starts_no_container(job: Job, said: str) -> None:
    (job.attempt / said).write_text("{}")
    assert "job 3 is being ended and starts no more containers" in job.refusal("docker run img")
    assert job.reaches("docker stop c") == "docker stop c"


def test_a_container_that_could_not_be_stopped_is_not_started(job: Job) -> None:
    job.attempt.rmdir()
    assert "without which the container would not be stopped with the job" in job.refusal("docker run img")


# ---- with the engines


def call(job: Job, engine: Engine, line: str) -> str:
    """What a container prints that a job starts."""
    job.env |= {**engine.env, "PATH": f"{WRAPPERS}:{LOGIN_PATH}", "SKYSPOOL_GPU_UUIDS": f"{GPUS[1]},{GPUS[2]}"}
    done = job.call(f"{engine.name} {line}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_docker_gives_a_container_exactly_the_jobs_gpus(job: Job, docker: Engine) -> None:
    for options, uuids, visible in (
        ("--gpus all", GPUS[1:3], "0,1"),
        ("--gpus device=1 -e CUDA_VISIBLE_DEVICES", GPUS[2:3], "0"),
        ("--gpus=1", GPUS[1:2], "0"),
        ("--gpus all --env CUDA_VISIBLE_DEVICES=1", GPUS[1:3], "1"),
    ):
        told = call(job, docker, f"run --rm {options} {IMAGE} env").splitlines()
        assert {line for line in told if "VISIBLE" in line} == {
            f"NVIDIA_VISIBLE_DEVICES={','.join(uuids)}",
            f"CUDA_VISIBLE_DEVICES={visible}",
        }
    assert "VISIBLE" not in call(job, docker, f"run --rm {IMAGE} env")


def test_podman_gives_a_container_exactly_the_jobs_gpus(job: Job, podman: Engine) -> None:
    see = f"{IMAGE} sh -c 'echo /dev/gpu* $CUDA_VISIBLE_DEVICES'"
    assert call(job, podman, f"run --rm --gpus=all {see}") == "/dev/gpu1 /dev/gpu2 0,1\n"
    assert call(job, podman, f"run --rm --gpus device=1 -e CUDA_VISIBLE_DEVICES {see}") == "/dev/gpu2 0\n"
    assert call(job, podman, f"run --rm --device nvidia.com/gpu={GPUS[1]} {see}") == "/dev/gpu1 0\n"
    assert call(job, podman, f"run --rm {see}") == "/dev/gpu*\n"


def test_a_container_carries_the_label_of_its_job(job: Job, engine: Engine) -> None:
    ident = call(job, engine, f"create --label mine=1 {IMAGE} sleep 1").strip()
    labels = json.loads(engine("inspect", "--format={{json .Config.Labels}}", ident))
    assert labels == {"mine": "1", "skyspool.attempt": "spool7/3.1"}
