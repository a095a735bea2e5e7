"""Patterns that are compiled when they are first used: a client uses few of those that it knows, and each takes as long
as reading fifty jobs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

Find = Callable[..., "re.Match[str] | None"]


class Pattern:
    """As re.Pattern, as far as it is used here."""

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text, self._flags = text, flags

    @cached_property
    def match(self) -> Find:
        """As re.Pattern.match."""
        return re.compile(self._text, self._flags).match

    @cached_property
    def search(self) -> Find:
        """As re.Pattern.search."""
        return re.compile(self._text, self._flags).search

    @cached_property
    def sub(self) -> Callable[..., str]:
        """As re.Pattern.sub."""
        return re.compile(self._text, self._flags).sub
