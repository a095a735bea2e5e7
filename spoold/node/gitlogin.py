"""A name and password in the address of a git repository, kept from `ps`.

git would pass such an address on to its helpers on their command lines, where every user of the host can read it, and
keep it in the clone, which may lie on the spool. So it is given the address without them, and the clone's configuration
includes a file that says them for this server alone. What the job does in its clone later (fetch, push, submodules of
the same server) goes on to work, as long as that file is there.

    PATH             git-config(1): the user name, and that the password is in
    PATH.password    what git-credential-store(1) reads

Both are their owner's alone. Any git can do this; GIT_CONFIG_COUNT would need 2.31. ssh takes no password from an
address.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from typing import NamedTuple

_WITH_LOGIN = re.compile(r"(https?://)([^/?#]*)@([^/?#]*)(.*)", re.DOTALL)


class Hidden(NamedTuple):
    """What of an address may be seen. options: of `git clone`, which say where the rest is."""

    url: str
    options: tuple[str, ...] = ()


def hide(url: str, path: str) -> Hidden:
    """Write what of the address must not be seen to files. path: where."""
    found = _WITH_LOGIN.fullmatch(url)
    if found is None:
        return Hidden(url)
    from urllib.parse import unquote  # a megabyte in each supervisor, which needs it seldom

    scheme, login, host, rest = found.groups()
    name, colon, password = login.partition(":")
    lines = [f"[credential {_quoted(scheme + host)}]", "useHttpPath = false", f"username = {_quoted(unquote(name))}"]
    if colon:  # and nobody else is asked
        store = f"{path}.password"
        _write(store, f"{scheme}{_encoded(name)}:{_encoded(password)}@{host}\n")
        lines += ["helper =", f"helper = {_quoted(f'store --file={shlex.quote(store)}')}"]
    _write(path, "\n".join([*lines, ""]))
    return Hidden(scheme + host + rest, ("-c", f"include.path={path}"))


def has_login(url: str) -> bool:
    """Whether an address holds what must not be seen."""
    return _WITH_LOGIN.fullmatch(url) is not None


def forget(path: str) -> None:
    """Remove the files, if there are any."""
    for name in (path, f"{path}.password"):
        with suppress(FileNotFoundError):
            os.unlink(name)


def _encoded(word: str) -> str:
    from urllib.parse import quote, unquote

    return quote(unquote(word), safe="")


def _quoted(text: str) -> str:
    """A value of git-config(1)."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _write(path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(
        path, "w", encoding="utf-8", errors="surrogateescape", opener=lambda name, _: os.open(name, flags, 0o600)
    ) as file:
        file.write(text)
