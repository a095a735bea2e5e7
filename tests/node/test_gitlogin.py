"""Cloning with a name and password in the address: real git, a real job, a server that wants them."""

from __future__ import annotations

import base64
import functools
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from spoold.node import gitlogin
from spoold.node.job import bare
from tests.node.site import Site, running

WORD = "s3cretw0rd"  # of the password, as it is in whatever way it is written
NAME, PASSWORD = "me@work", f":/'\"%\\ {WORD}"
LOGIN = f"{quote(NAME)}:{quote(PASSWORD, safe='')}"


class Server(ThreadingHTTPServer):
    """Serves a directory to whoever knows the password. lines: command lines of git's at each request."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        super().__init__(("127.0.0.1", 0), functools.partial(Guarded, directory=str(folder)))

    def url(self, login: str) -> str:
        """The repository's address."""
        return f"http://{login}@127.0.0.1:{self.server_port}/repo.git"


class Guarded(SimpleHTTPRequestHandler):
    """401 without the password."""

    server: Server

    def do_GET(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if "git" in line:
                self.server.lines.append(line)
        known = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {known}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    work, bare_one = tmp_path / "work", tmp_path / "served" / "repo.git"
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (
        ["init", "--quiet", "--initial-branch=main", str(work)],
        ["-C", str(work), *author, "commit", "--quiet", "--allow-empty", "-m", "first"],
        ["clone", "--quiet", "--bare", str(work), str(bare_one)],
        ["-C", str(bare_one), "update-server-info"],
    ):
        subprocess.run(["git", *words], check=True, capture_output=True)
    served = Server(bare_one.parent)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with running(tmp_path / "site") as site:
        site.start()
        site.step()
        yield site


def holding(top: str) -> dict[str, int]:
    """Files below that hold the password, and their modes."""
    found = [path for path in Path(top).rglob("*") if path.is_file() and WORD.encode() in path.read_bytes()]
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}


def test_the_password_opens_the_repository_and_is_in_no_command_line(up: Site, server: Server) -> None:
    key = up.task(
        1,
        f'workdir: {{url: "{server.url(LOGIN)}", ref: main}}\nrun: git fetch && git log --format=%s && git remote -v\n',
    )
    up.assign()
    up.until(lambda: up.phase(key) == "ended", 60)
    assert up.log(1).splitlines()[0] == "first"
    assert f"http://127.0.0.1:{server.server_port}/repo.git (fetch)" in up.log(1)
    assert any("git-remote-http" in line for line in server.lines) and any("git fetch" in line for line in server.lines)
    assert [line for line in server.lines if WORD in line] == []
    assert set(holding(up.spool.root)) == {"1.job.yaml"}
    kept = holding(up.attempt(key).path)
    assert kept.pop("git-config.password") == 0o600
    assert set(kept) == {"order.json"}


def test_a_wrong_password_fails_setup_and_is_not_kept(up: Site, server: Server) -> None:
    key = up.task(1, f"workdir: {{url: '{server.url(f'other{LOGIN}')}'}}\nrun: x\n")
    up.assign()
    up.until(lambda: up.phase(key) == "ended", 60)
    reason = up.ended(key).reason
    assert reason.endswith(f"`git clone` of http://127.0.0.1:{server.server_port}/repo.git ended with 128")
    assert set(holding(up.attempt(key).path)) == {"order.json"}


def test_a_name_alone_leaves_the_password_to_those_who_may_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text('[credential]\nhelper = "!f() { cat >> asked; echo password=p; }; f"\n')
    hidden = gitlogin.hide("https://some%20token@host.example:8443/a/b.git?c@d", str(tmp_path / "login"))
    assert hidden.url == "https://host.example:8443/a/b.git?c@d"
    assert hidden.options == ("-c", f"include.path={tmp_path}/login")
    filled = subprocess.run(
        ["git", *hidden.options, "credential", "fill"],
        input="protocol=https\nhost=host.example:8443\n\n",
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "username=some token\npassword=p\n" in filled.stdout
    assert "username=some token" in (tmp_path / "asked").read_text()
    gitlogin.forget(str(tmp_path / "login"))
    assert sorted(os.listdir(tmp_path)) == [".gitconfig", "asked"]


@pytest.mark.parametrize(
    "url", ["https://host/a@b.git", "ssh://git@host/x.git", "git@host:x.git", "/a/b@c", "file:///x@y", "https://h/?u@v"]
)
def test_other_addresses_are_left_alone(tmp_path: Path, url: str) -> None:
    assert gitlogin.hide(url, str(tmp_path / "login")) == (url, ()) and not gitlogin.has_login(url)
    assert os.listdir(tmp_path) == []


def test_a_job_has_a_login_to_be_removed_only_where_its_address_has_one() -> None:
    assert gitlogin.has_login("https://user:p@host/x.git") and gitlogin.has_login("http://user@host/x.git")


def test_no_reason_tells_half_a_password() -> None:
    assert bare("https://u:p@ss@host/x@y") == "https://host/x@y"
    assert bare("https://host/x@y") == "https://host/x@y"
