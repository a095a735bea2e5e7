"""A diagnosis as lines for people, and as data for programs.

A finding is one line: verdict, what was looked at, what was seen; what to change. On a terminal a long line goes on
under its text. The verdict is a word, and has a colour too.
"""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Any

import click

from skyspool.ages import ago, iso
from skyspool.tables import COLUMNS
from spool_layout.diagnosis import Diagnosis, Finding

COLOURS = {"fine": "green", "slow": "yellow", "unsafe": "red", "left out": "cyan"}
VERDICT = max(len(word) for word in COLOURS)


def lines(found: Diagnosis, directory: str, width: int | None) -> list[str]:
    """All of it. width: of the terminal; None: one line for each finding, however long."""
    check = max(len(finding.check) for finding in [*found.findings, *found.together])
    head = [
        *_wrapped("Directory: ", directory, width),
        *_wrapped("File system: ", f"{found.file_system} ({found.source}) on {found.host}", width),
        *_wrapped("Options: ", found.options.replace(",", ", "), width),
        "",
    ]
    told = _told(found.findings, check, width)
    if found.together:
        told += ["", f"With {found.met}{_when(found)}:", "", *_told(found.together, check, width)]
    return [*head, *told, "", *_wrapped("", summary(found), width)]


def _told(findings: list[Finding], check: int, width: int | None) -> list[str]:
    return [line for finding in findings for line in _wrapped(_label(finding, check), finding.line, width)]


def _when(found: Diagnosis) -> str:
    return "" if found.met_at == found.at else f", {ago(found.met_at, found.at)}"


def _label(finding: Finding, check: int) -> str:
    return f" {finding.verdict.ljust(VERDICT)}  {finding.check.ljust(check)}  "


def _wrapped(label: str, text: str, width: int | None) -> list[str]:
    if width is None:
        return [f"{label}{text}".rstrip()]
    rest = " " * min(len(label), width // 2)
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=rest, break_on_hyphens=False) or [label]


def summary(found: Diagnosis) -> str:
    """One sentence: whether a spool can be kept there."""
    if found.refusals:
        return f"Unsafe for a spool: {_checks(found.refusals)}. No head leads on this host, save by --force."
    if found.warnings:
        return f"A spool can be kept here; worth a look: {_checks(found.warnings)}."
    return "A spool can be kept here."


def _checks(findings: list[Finding]) -> str:
    return ", ".join(dict.fromkeys(finding.check for finding in findings))


def show(found: Diagnosis, directory: str) -> None:
    """Print it on stdout, fitted and coloured on a terminal."""
    if not sys.stdout.isatty():
        click.echo("\n".join(lines(found, directory, None)))
        return
    width = os.get_terminal_size(sys.stdout.fileno()).columns or COLUMNS
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    for line in lines(found, directory, width):
        click.echo(line if plain else _coloured(line))


def _coloured(line: str) -> str:
    for word, colour in COLOURS.items():
        if line.startswith(f" {word} "):
            return f" {click.style(word, fg=colour)}{line[1 + len(word) :]}"
    return line


def data(found: Diagnosis, directory: str, kept: str | None) -> dict[str, Any]:
    """For -o json. kept: the file that holds it now, if one does."""
    return {
        "directory": directory,
        "host": found.host,
        "at": iso(found.at),
        "file_system": found.file_system,
        "source": found.source,
        "options": found.options.split(","),
        "verdict": found.warnings[0].verdict if found.warnings else "fine",
        "findings": [finding.data for finding in found.findings],
        "met": found.met or None,
        "met_at": iso(found.met_at) if found.met else None,
        "together": [finding.data for finding in found.together],
        "kept": kept,
    }
