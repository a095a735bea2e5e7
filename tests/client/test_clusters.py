from __future__ import annotations

import os
from pathlib import Path

import pytest

from skyspool import clusters
from spool_layout.errors import BadSettings, NewerFormat, NotASpool, UsageError
from tests.client.builders import Scene


@pytest.fixture
def known(scene: Scene, home: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A spool that the configuration calls `lab`; no SKYSPOOL_DIR."""
    monkeypatch.delenv("SKYSPOOL_DIR")
    configure(home, f"clusters:\n  lab: {scene.spool.root}\n")
    return scene


def configure(home: Path, text: str) -> Path:
    path = home / ".config/skyspool/config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_cluster_is_a_name_or_a_directory_and_else_the_word_is_left(known: Scene) -> None:
    root = known.spool.root
    for words in (("lab", "3"), (root, "3"), (f"{root}/", "3"), (os.path.relpath(root), "3")):
        found, rest = clusters.split(words)
        assert (found.spool.root, rest) == (root, ("3",))
    for word in ("3", "train"):
        found, rest = clusters.split((word,))
        assert (found.name, rest) == ("lab", (word,))


def test_digits_are_always_an_id(known: Scene, home: Path) -> None:
    os.symlink(known.spool.root, home / "3")
    configure(home, f"clusters:\n  lab: {known.spool.root}\n  '3': {known.spool.root}\ndefault: lab\n")
    assert clusters.lookup("3") is None
    assert clusters.split(("3",))[1] == ("3",)


def test_what_hints_call_it_can_be_typed(known: Scene, tmp_path: Path) -> None:
    assert clusters.default().word == "lab"
    assert clusters.named(known.spool.root).word == known.spool.root
    (tmp_path / "my spools").mkdir()
    spaced = Scene(tmp_path / "my spools")
    assert clusters.named(spaced.spool.root).word == f"'{spaced.spool.root}'"


def test_who_is_meant_where_none_is_named(known: Scene, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clusters.default().name == "lab"  # the only one
    configure(home, f"default: two\nclusters:\n  lab: /nowhere\n  two: {known.spool.root}\n")
    assert clusters.default().name == "two"
    monkeypatch.setenv("SKYSPOOL_DIR", known.spool.root)
    assert clusters.default().name == "mycluster"
    monkeypatch.setenv("SKYSPOOL_DIR", "two")
    assert clusters.default().name == "two"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("", UsageError, "no cluster is configured, and SKYSPOOL_DIR is not set"),
        (
            "clusters: {a: /a, b: /b}",
            UsageError,
            "several clusters are configured and none is the default: name one of a, b",
        ),
        ("default: c\nclusters: {a: /a}", BadSettings, "the default cluster 'c' is not among the configured ones"),
        ("clusters: {a: /nowhere}", NotASpool, "/nowhere holds no spool.yaml"),
        ("clusters: [a]", BadSettings, "it should say `default: NAME`"),
        ("- a", BadSettings, "it should say `default: NAME`"),
        ("a: b: c", BadSettings, "mapping values are not allowed"),
        ("default: [a]", BadSettings, "it should say `default: NAME`"),
    ],
)
def test_configurations_that_name_none(home: Path, text: str, error: type[Exception], told: str) -> None:
    configure(home, text)
    with pytest.raises(error) as raised:
        clusters.default()
    assert told in str(raised.value)


def test_the_users_configuration_stands_over_the_systems(
    known: Scene, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(clusters.SYSTEM_CONFIG).write_text("default: all\nclusters:\n  all: /srv/spool\n  lab: /srv/lab\n")
    found = clusters.configuration()
    assert found == ("all", {"all": "/srv/spool", "lab": known.spool.root})
    configure(home, "default: lab\n")
    assert clusters.configuration() == ("lab", {"all": "/srv/spool", "lab": "/srv/lab"})


def test_configurations_of_any_yaml(known: Scene, home: Path) -> None:
    configure(home, f"# mine\ndefault: 'lab'\nclusters: {{lab: {known.spool.root}, home: ~/spool}}\n")
    assert clusters.default().spool.root == known.spool.root
    assert clusters.configuration().clusters["home"] == f"{home}/spool"


def test_spools_that_cannot_be_opened(known: Scene) -> None:
    path = Path(known.spool.settings)
    text = path.read_text()
    path.write_text(text.replace("format: 1", "format: 2"))
    with pytest.raises(NewerFormat, match="formats up to 1"):
        clusters.named("lab")
    path.write_text(text + "nodes: {n1: {gpus: H100:4}}\nunknown: 1\n")
    with pytest.raises(BadSettings, match="there is no setting 'unknown'"):
        clusters.named("lab")
    path.unlink()
    path.mkdir()
    with pytest.raises(NotASpool, match="Is a directory"):
        clusters.named("lab")


def test_settings_of_any_yaml(known: Scene) -> None:
    path = Path(known.spool.settings)
    path.write_text(path.read_text().replace("50s", "'70s'") + "nodes: {n1: {gpus: H100:4}}\n")
    assert clusters.named("lab").threshold == 70


def test_an_unknown_word_names_the_nearest_cluster(known: Scene) -> None:
    assert "did you mean 'lab'?" in clusters.unknown("lap").message
