"""The checker can fail: each of its rules finds a history that breaks it, and a good one passes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import pytest

from tests.history.account import records
from tests.history.checker import History, faults, outcomes
from tests.history.proof import parse

ONE, HALF = {"G1": 1000}, {"G1": 500}
PROOF = {"1.1.0@n1-7-1": "+ 100.5 1 G1\n- 101.5\n"}


def line(event: str, **words: object) -> bytes:
    text = json.dumps({"event": event, **words}).encode()
    return text + f" {zlib.crc32(text):08x}\n".encode()


def seal(epoch: int, **seals: int) -> bytes:
    return line("sealed", epoch=epoch, seals={name[1:]: length for name, length in seals.items()})


def accept(job: int) -> bytes:
    return line("accepted", id=job, name=f"job{job}")


def start(job: int, attempt: int = 1, gpus: Mapping[str, int] = ONE, node: str = "n1") -> bytes:
    return line("started", id=job, attempt=attempt, allocations=[{"node": node, "gpus": gpus}])


def end(job: int, attempt: int = 1, status: str = "SUCCEEDED") -> bytes:
    return line("ended", id=job, attempt=attempt, status=status)


def lost(job: int, again: bool, attempt: int = 1) -> bytes:
    return line("lost", id=job, attempt=attempt, nodes=["n1"], again=again)


def gone(job: int, attempt: int = 1) -> bytes:
    return line("gone", id=job, attempt=attempt, node="n1")


def run(name: str, began: float, ended: float | None, share: float = 1, gpus: str = "G1") -> dict[str, str]:
    return {name: f"+ {began} {share} {gpus}\n" + ("" if ended is None else f"- {ended}\n")}


def found(
    events: bytes | dict[int, bytes], proofs: Mapping[str, str] = PROOF, logs: Mapping[str, str] | None = None
) -> str:
    files = events if isinstance(events, dict) else {1: seal(1) + events}
    return "\n".join(faults(History(files, proofs, logs or {})))


GOOD = accept(1) + start(1) + end(1)


def test_a_good_history_has_no_faults() -> None:
    logs = {"1/run.log": "began 1.1.0@n1-7-1\nended 1.1.0@n1-7-1\n"}
    assert found(GOOD, PROOF, logs) == ""
    assert outcomes(History({1: seal(1) + GOOD}, {}, {})) == {"SUCCEEDED": 1}


def test_takeovers_lost_nodes_and_second_attempts_are_no_faults() -> None:
    first = seal(1) + accept(1) + start(1)
    torn = first + b'{"event":"ended"'
    second = seal(2, e1=len(first)) + lost(1, True) + start(1, 2, node="n2", gpus={"G2": 1000}) + gone(1) + end(1, 2)
    proofs = run("1.1.0@n1-7-1", 1, None) | run("1.2.0@n2-8-2", 2, 3, gpus="G2")
    assert found({1: torn, 2: second, 3: b""}, proofs) == ""


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (accept(1) + start(1), "job 1 was accepted and never ended"),
        (GOOD + accept(2), "job 2 was accepted and never ended"),
        (GOOD + accept(1), "an ID was given before"),
        (GOOD + end(1), "ends what cannot end so"),
        (GOOD + start(1, 2), "starts what does not wait"),
        (accept(1) + start(1) + start(1) + end(1), "starts what does not wait"),
        (accept(1) + start(1) + lost(1, True) + gone(1) + start(1) + end(1), "counted twice or left out"),
        (accept(1) + start(1, 2) + end(1, 2), "counted twice or left out"),
        (accept(1) + start(1) + end(1, 2), "ends an attempt that does not run"),
        (accept(1) + start(1) + end(1, status="ODD"), "ends what cannot end so"),
        (start(1) + end(1), "starts what does not wait"),
    ],
)
def test_lives_that_do_not_fit_are_found(events: bytes, fault: str) -> None:
    assert fault in found(events)


@pytest.mark.parametrize(
    "events",
    [
        accept(1) + accept(2) + start(1) + start(2) + end(1) + end(2, status="FAILED"),
        accept(1) + accept(2) + start(1, gpus=HALF) + start(2, gpus={"G1": 501}) + end(1) + end(2, status="FAILED"),
        accept(1) + accept(2) + start(1) + lost(1, False) + start(2) + end(2, status="FAILED"),
    ],
    ids=["two wholes", "a half and more", "held by a lost node"],
)
def test_a_gpu_given_out_twice_is_found(events: bytes) -> None:
    assert "G1 is given out" in found(events)


def test_two_halves_and_a_slot_that_came_back_are_no_faults() -> None:
    halves = accept(1) + accept(2) + start(1, gpus=HALF) + start(2, gpus=HALF) + end(1) + end(2, status="FAILED")
    again = accept(1) + accept(2) + start(1) + lost(1, False) + gone(1) + start(2) + end(2, status="FAILED")
    assert found(halves) == ""
    assert found(again, {}) == ""


def test_an_attempt_that_ran_twice_is_found_without_any_clock() -> None:
    twice = PROOF | {"1.1.0@n1-8-2": ""}
    assert "attempt 1.1 rank 0 ran 2 times" in found(GOOD, twice)


@pytest.mark.parametrize(
    "proof",
    [run("2.1.0@n1-7-1", 1, 2), run("1.2.0@n1-7-1", 1, 2), run("1.1.1@n1-7-1", 1, 2), run("1.1.0@n2-7-1", 1, 2)],
    ids=["job", "attempt", "rank", "node"],
)
def test_a_process_that_nobody_started_is_found(proof: dict[str, str]) -> None:
    assert "ran, and no event says so" in found(GOOD, proof)


def test_a_process_on_a_gpu_that_it_was_not_given_is_found() -> None:
    assert "was given" in found(GOOD, run("1.1.0@n1-7-1", 1, 2, gpus="G1,G2"))


@pytest.mark.parametrize("proofs", [{}, run("1.1.0@n1-7-1", 1, None)], ids=["no proof", "no last line"])
def test_a_success_that_did_not_run_to_its_end_is_found(proofs: dict[str, str]) -> None:
    assert "job 1 succeeded, but rank 0 of attempt 1 did not run" in found(GOOD, proofs)


def test_a_job_that_was_said_to_leave_no_proof_is_not_asked_for_one() -> None:
    assert faults(History({1: seal(1) + GOOD}, {}, {}, frozenset({"job1"}))) == []
    assert faults(History({1: seal(1) + GOOD}, {}, {}, frozenset({"job2"}))) != []


def test_a_success_without_any_start_is_found() -> None:
    assert "job 1 succeeded, but rank 0 of attempt None" in found(accept(1) + end(1, 0))


def test_a_gpu_used_twice_at_a_time_is_found_by_the_jobs_own_clock() -> None:
    one_by_one = accept(1) + start(1) + end(1) + accept(2) + start(2) + end(2)
    apart = PROOF | run("2.1.0@n1-8-2", 101.5, 102)
    beside = PROOF | run("2.1.0@n1-8-2", 101.4, 102)
    assert found(one_by_one, apart) == ""
    assert "G1 had at once: 1.1.0@n1-7-1, 2.1.0@n1-8-2" in found(one_by_one, beside)


def test_a_run_whose_end_is_unknown_counts_at_its_beginning() -> None:
    events = accept(1) + start(1) + end(1) + accept(2) + start(2) + end(2, status="FAILED")
    assert "had at once" in found(events, PROOF | run("2.1.0@n1-8-2", 101, None))
    assert found(events, PROOF | run("2.1.0@n1-8-2", 99, None)) == ""


FIRST = seal(1) + accept(1)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({1: accept(1)}, "1.jsonl begins with"),
        ({1: seal(2)}, "1.jsonl begins with"),
        ({1: FIRST, 2: seal(2, e1=len(FIRST)), 3: seal(3, e1=len(seal(1)), e2=len(seal(2, e1=9)))}, "a later one at"),
        ({1: FIRST, 2: seal(2, e1=len(FIRST) - 1)}, "where no whole record ends"),
        ({1: FIRST, 2: seal(2)}, "epoch 1 was never sealed"),
        ({1: FIRST + seal(1) + end(1, 0, "CANCELLED")}, "more than one seal"),
        ({1: FIRST, 2: seal(2, e1=len(FIRST), e3=5)}, "does not precede it"),
    ],
    ids=["no seal", "other epoch", "seal moved", "cut record", "not sealed", "two heads in one file", "of the future"],
)
def test_epochs_that_interleave_are_found(files: dict[int, bytes], fault: str) -> None:
    assert fault in found(files, {})


def test_an_epoch_that_wrote_its_seal_too_late_holds_nothing() -> None:
    late = seal(2, e1=len(FIRST)) + end(1, 0, "CANCELLED")
    first = FIRST + start(1)
    assert found({1: first, 2: late, 3: seal(3, e1=len(first), e2=0) + end(1)}) == ""


def test_what_a_deposed_head_wrote_after_the_seal_does_not_count() -> None:
    first = seal(1) + accept(1) + start(1)
    files = {1: first + end(1, status="CANCELLED"), 2: seal(2, e1=len(first)) + end(1)}
    assert found(files) == ""
    assert outcomes(History(files, {}, {})) == {"SUCCEEDED": 1}


@pytest.mark.parametrize(
    ("logs", "fault"),
    [
        ({"2/run.log": "began 1.1.0@n1-7-1\n"}, "holds the words of"),
        ({"1/attempt-2/run.log": "began 1.1.0@n1-7-1\n"}, "holds the words of"),
        ({"1/run.log": "began 1.1.0@n1-9-9\n"}, "has left no proof"),
        ({"1/run.log": "began 1.1.0@n1-7-1\nbegan 1.1.0@n1-7-1\n"}, "first words 2 times"),
    ],
    ids=["other job", "other attempt", "no proof", "twice"],
)
def test_words_in_the_wrong_log_are_found(logs: dict[str, str], fault: str) -> None:
    assert fault in found(GOOD, PROOF, logs)


def test_records_are_read_up_to_the_first_that_is_torn() -> None:
    good = accept(1)
    assert len(records(good + good[:-1])[0]) == 1
    assert len(records(good + good.replace(b'"id": 1', b'"id": 2') + good)[0]) == 1


def test_a_hosts_name_may_hold_dashes() -> None:
    assert parse("3.1.0@gpu-node-7-812-99", "+ 1 0.5 G1,G2\n").host == "gpu-node-7"
