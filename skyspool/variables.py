"""Variables of a job from the command line: --env, --env-file, --secret, --secret-file.

Who wins, as under SkyPilot: --env over --env-file over the task file; --secret over --secret-file over --env-file over
the task file. A name that stands in both envs and secrets is a secret. A bare `--env KEY` takes the caller's value.

A file holds `KEY=VALUE` lines; `export ` in front, blank lines and `# comments` are allowed. 'single quotes' keep a
value as it is, "double quotes" know \\n, \\t, \\" and \\\\; a quoted value may go over several lines. ${NAME} and
${NAME:-else} stand for what was set before or is set here, as in the dotenv files that SkyPilot reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spool_layout.errors import SpoolError, UsageError
from spool_layout.patterns import Pattern

NAME = Pattern(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LINE = Pattern(
    r"""[ \t]*(?:export[ \t]+)?(?P<key>[^\s=#'"]+)[ \t]*
        (?:=[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>(?![ \t]*['"])[^\r\n]*)))?
        [ \t]*(?:\#[^\r\n]*)?(?:\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_SKIPPED = Pattern(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_REFERENCE = Pattern(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Variables(NamedTuple):
    """What the command line says. fallback: from --env-file, which also fills the task file's secrets."""

    envs: dict[str, str]
    secrets: dict[str, str]
    fallback: dict[str, str]

    def all(self) -> dict[str, str]:
        """Every value, for what a task file leaves open."""
        return {**self.fallback, **self.envs, **self.secrets}

    def over(
        self, envs: Mapping[str, object], secrets: Mapping[str, object]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """A task file's envs and secrets with these over them."""
        hidden = {key: value for key, value in self.fallback.items() if key in secrets}
        open_ones = {key: value for key, value in self.fallback.items() if key not in secrets}
        return {**envs, **open_ones, **self.envs}, {**secrets, **hidden, **self.secrets}


def gather(env: Sequence[str], env_file: str | None, secret: Sequence[str], secret_file: str | None) -> Variables:
    """Everything that the four options say. UsageError for a bad name or a bare one that is not set."""
    fallback = read_file(env_file) if env_file else {}
    hidden = read_file(secret_file) if secret_file else {}
    return Variables(
        dict(_pair(word, "--env") for word in env),
        {**hidden, **dict(_pair(word, "--secret") for word in secret)},
        fallback,
    )


def _pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not NAME.match(key):
        raise UsageError(f"{option} {word}: {key!r} is no name for a variable")
    if equals:
        return key, value
    if key not in os.environ:
        raise UsageError(f"{option} {key}: it is not set here", f"export {key}=…   or   {option} {key}=VALUE")
    return key, os.environ[key]


def read_file(path: str) -> dict[str, str]:
    """The variables of a file. SpoolError where it cannot be read, with file and line where it says something else."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise SpoolError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def parse(text: str, where: str) -> dict[str, str]:
    """KEY=VALUE lines. A key alone takes the caller's value."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if skipped := _SKIPPED.match(text, at):
            at = skipped.end()
            continue
        match = _LINE.match(text, at)
        if not match or not NAME.match(match["key"]):
            raise SpoolError(f"{where}:{text.count(chr(10), 0, at) + 1}: not KEY=VALUE")
        found[match["key"]] = _value(match, found)
        at = match.end()
    return found


def _value(match: re.Match[str], before: Mapping[str, str]) -> str:
    if match["single"] is not None:
        return match["single"]
    if match["double"] is not None:
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match["double"], flags=re.DOTALL)
    elif match["bare"] is not None:
        text = re.sub(r"(^|\s+)#.*$", "", match["bare"]).strip()
    else:
        return os.environ.get(match["key"], "")
    known = {**os.environ, **before}
    return _REFERENCE.sub(lambda m: known.get(m["name"]) or m["default"] or "", text)
