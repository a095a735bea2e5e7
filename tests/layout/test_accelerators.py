"""Accelerators are known by the names that SkyPilot gives them, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool_layout.accelerators import KINDS, SPELLINGS, canonical, is_memory_request, is_name, nearest, resolve, same

NAMES = [kind.name for kind in (*KINDS, *SPELLINGS)]


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_a_known_name_means_itself_in_any_case(name: str, chance: object) -> None:
    for written in (name.lower(), name.upper(), name.swapcase(), f" {name} "):
        assert resolve(written) == [name]
        assert canonical(written) == name


def test_no_name_is_listed_twice() -> None:
    assert len({name.lower() for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("h100", ["H100"]),
        ("a100-80gb", ["A100-80GB"]),
        ("TPU-V5p", ["tpu-v5p"]),  # those of Google are in lower case, known or not
        ("tpu-X9", ["tpu-x9"]),
        ("4090", ["RTX4090"]),  # a part of one name
        ("A5000", ["RTXA5000"]),
        ("MI300", ["MI300X"]),  # SkyPilot's catalog has no MI300A
        ("5080", ["RTX5080"]),  # its catalog has none
        ("V520", ["Radeon Pro V520"]),
        ("A6000", ["A6000"]),  # a name of its own, and part of another
        ("A100", ["A100"]),
        ("A100-80", ["A100-80GB", "A100-80GB-SXM"]),  # a part of several
        ("H100-NV", ["H100-NVL", "H100-NVLINK"]),
        ("MyGPU", ["MyGPU"]),  # nobody knows it: kept as it is written
        ("P400", ["P400"]),  # no P4000: a number is not cut in two
        ("M6", ["M6"]),
        ("H10", ["H10"]),
        ("A100-MIG-1g.5gb", ["A100-MIG-1g.5gb"]),
        ("H100+", ["H100+"]),  # no pattern, but a word
        ("", [""]),
    ],
)
def test_a_name_is_matched_whole_then_by_a_part(written: str, meant: list[str]) -> None:
    assert resolve(written) == meant


def test_a_part_of_several_names_has_no_canonical_spelling() -> None:
    assert canonical("rtx") == "rtx"
    assert len(resolve("rtx")) > 10


@pytest.mark.parametrize(
    ("written", "asks"),
    [
        ("80GB", True),
        ("80gb+", True),
        ("nvidia:80GB", True),
        ("AMD:192GB+", True),
        ("40960MB", True),
        ("1TB+", True),
        ("80", False),
        ("80G", False),
        ("80.5GB", False),
        ("A100-80GB", False),
        ("80GB:2", False),
        ("", False),
    ],
)
def test_a_request_by_memory_is_told_from_a_name(written: str, asks: bool) -> None:
    assert is_memory_request(written) is asks


def memory(name: str) -> int:
    return next(kind.memory_gb for kind in (*KINDS, *SPELLINGS) if kind.name == name)


def test_a_size_means_all_of_that_size() -> None:
    assert set(resolve("80GB")) == {"H100", "H100-MEGA", "H800", "A100-80GB", "A800", "H100-SXM", "H100-NVLINK",
                                    "A100-80GB-SXM"}  # fmt: skip
    assert resolve("80GB") == resolve("81920MB") == resolve(" 80gb ")


def test_at_least_a_size_means_the_smallest_first() -> None:
    sizes = [memory(name) for name in resolve("80GB+")]
    assert sizes == sorted(sizes)
    assert sizes[0] == 80
    assert set(resolve("80GB")) < set(resolve("80GB+"))


@pytest.mark.parametrize(("maker", "name"), [("nvidia", "H100"), ("AMD", "MI300X"), ("intel", "Gaudi3")])
def test_a_maker_narrows_it_down(maker: str, name: str) -> None:
    found = resolve(f"{maker}:80GB+")
    assert name in found
    assert {kind.maker for kind in (*KINDS, *SPELLINGS) if kind.name in found} == {maker.lower()}


@pytest.mark.parametrize("written", ["33GB", "9TB+", "voodoo:80GB", "0GB"])
def test_a_size_that_none_has_means_none(written: str) -> None:
    assert resolve(written) == []
    assert canonical(written) == written


@pytest.mark.parametrize(
    ("word", "fits"),
    [
        ("H100", True),
        ("Gaudi HL-205", True),
        ("A100-MIG-1g.5gb", True),
        ("4090", True),
        ("RTX", True),  # ambiguous, but a name
        ("8", False),
        ("77", False),
        ("", False),
        (" ", False),
        ("H100:8", False),
        ("-x", False),
        ("{H100", False),
        ("H100\n", True),  # blanks around it are no part of it
        ("H100\nL4", False),
        ("é", False),
        ("x" * 65, False),
    ],
)
def test_what_can_be_a_name(word: str, fits: bool) -> None:
    assert is_name(word) is fits


def test_names_are_the_same_whatever_their_case() -> None:
    assert same("h100", " H100 ")
    assert not same("H100", "H200")


@pytest.mark.parametrize(
    ("word", "there", "meant"),
    [
        ("H10O", (), "H100"),
        ("hl00", (), "H100"),
        ("RTX409O", (), "RTX4090"),
        ("L44", (), "L4"),
        ("B20O", ("B200-SXM", "B100"), "B200"),
        ("Lab-GPu1", ("Lab-GPU", "H100"), "Lab-GPU"),
        ("h100", (), ""),
        ("A6000", ("H100",), ""),  # known, though not there
        ("lab-gpu", ("Lab-GPU",), ""),
        ("Something", ("H100",), ""),
        ("", (), ""),
    ],
)
def test_a_name_that_is_none_has_a_nearest_one(word: str, there: tuple[str, ...], meant: str) -> None:
    assert nearest(word, there) == meant


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_word_resolves_to_names_and_canonical_is_stable(word: str) -> None:
    assert all(isinstance(name, str) for name in resolve(word))
    assert canonical(canonical(word)) == canonical(word)
