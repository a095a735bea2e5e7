from __future__ import annotations

from pathlib import Path

from tests.client.builders import Scene
from tests.client.conftest import Run


def config(home: Path) -> str:
    return (home / ".config/skyspool/config.yaml").read_text()


def test_a_directory(scene: Scene, sky: Run, home: Path) -> None:
    ran = sky("use", scene.spool.root)
    assert (ran.code, ran.out) == (0, f"Default cluster: mycluster ({scene.spool.root})\n")
    assert config(home) == f"clusters:\n  mycluster: {scene.spool.root}\ndefault: mycluster\n"


def test_a_name_that_is_known(sky: Run, home: Path) -> None:
    sky("init", "a")
    sky("init", "b")
    assert sky("use", "b").out == f"Default cluster: b ({home}/b)\n"
    assert config(home).endswith("default: b\n")


def test_what_else_stands_in_the_configuration_stays(scene: Scene, sky: Run, home: Path) -> None:
    path = home / ".config/skyspool/config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# mine\ncolour: blue\nclusters: {other: /elsewhere}\n")
    sky("use", scene.spool.root)
    assert "colour: blue" in config(home) and "other: /elsewhere" in config(home)


def test_a_configuration_that_is_a_link_stays_one(scene: Scene, sky: Run, home: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / ".config").mkdir()
    (home / ".config/skyspool").symlink_to(home / "dotfiles")
    (home / "dotfiles/config.yaml").write_text("")
    sky("use", scene.spool.root)
    assert (home / ".config/skyspool").is_symlink() and "mycluster" in (home / "dotfiles/config.yaml").read_text()


def test_what_is_no_spool(scene: Scene, sky: Run, home: Path) -> None:
    for word in ("nope", str(home), "3"):
        ran = sky("use", word)
        assert ran.code == 1 and f"no cluster is called {word!r}" in ran.err
    assert not (home / ".config").exists()


def test_a_name_that_another_spool_has(scene: Scene, sky: Run, home: Path) -> None:
    sky("init", "a", "--name", "mycluster")
    ran = sky("use", scene.spool.root)
    assert ran.code == 2 and f"'mycluster' is already the name of {home}/a" in ran.err
