from __future__ import annotations

from spoold.wake import Pace


def test_looks_come_soon_after_news_and_back_off_to_the_longest_pause() -> None:
    pace = Pace(0.25, 2.0)
    pauses = [pace.step(news=True)] + [pace.step(news=False) for _ in range(20)]
    assert 0.2 < pauses[0] <= 0.25
    assert all(pause <= 2.0 for pause in pauses)
    assert all(pause >= 1.8 for pause in pauses[-5:])
    assert sum(pauses[:10]) < 12, "what follows within seconds is seen soon"
    assert pace.step(news=True) <= 0.25


def test_looks_of_several_hosts_do_not_fall_into_step() -> None:
    paces = [Pace(0.25, 2.0) for _ in range(20)]
    for pace in paces:
        pace.seconds = 2.0
    assert len({pace.step(news=False) for pace in paces}) == len(paces)
