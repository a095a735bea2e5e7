"""A starter that ends when it has looked at an attempt: in a fork, since nothing takes the real one's place again."""

from __future__ import annotations

from spoold.node import starter


class Brief(starter.Starter):
    """The real one, but for its end: that comes seconds after the last order."""

    looked = False

    def is_over(self) -> bool:
        return super().is_over() or self.looked

    def look_at(self, key: str) -> None:
        super().look_at(key)
        self.looked = True


def live(place: str) -> None:
    """A starter's life, to be called in a fork. place: a node's directory."""
    starter.Starter = Brief  # type: ignore[misc]  # main() makes it, and takes no other
    starter.main(place)
