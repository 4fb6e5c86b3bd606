from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from wye.engine.turns import Turns
from wye.errors import Unavailable

SOON_S = 20.0
NOT_YET_S = 0.05


def begin(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def hold(turns: Turns, name: str, entered: threading.Event, release: threading.Event | None = None) -> None:
    with turns.one(name):
        entered.set()
        if release is not None:
            release.wait(SOON_S)


def test_one_name_one_at_a_time_and_names_apart() -> None:
    turns, first, second, other, release = Turns(), *(threading.Event() for _ in range(4))
    begin(lambda: hold(turns, "a", first, release))
    assert first.wait(SOON_S)
    waiter = begin(lambda: hold(turns, "a", second))
    begin(lambda: hold(turns, "b", other))
    assert other.wait(SOON_S)
    assert not second.wait(NOT_YET_S)
    release.set()
    assert second.wait(SOON_S)
    waiter.join(SOON_S)


def test_a_thread_may_take_its_turn_twice() -> None:
    turns, done = Turns(), threading.Event()

    def twice() -> None:
        with turns.one("a"), turns.one("a"), turns.one("b"):
            done.set()

    begin(twice)
    assert done.wait(SOON_S)


def test_an_error_gives_the_turn_back() -> None:
    turns, done = Turns(), threading.Event()

    def fails() -> None:
        try:
            with turns.one("a"):
                raise ValueError
        except ValueError:
            pass

    begin(fails).join(SOON_S)
    begin(lambda: hold(turns, "a", done))
    assert done.wait(SOON_S)
    with turns.all():
        pass


def test_all_waits_for_those_who_change_and_keeps_others_out() -> None:
    turns, changing, release, quiet, over, late = Turns(), *(threading.Event() for _ in range(5))
    begin(lambda: hold(turns, "a", changing, release))
    assert changing.wait(SOON_S)

    def everything() -> None:
        with turns.all():
            quiet.set()
            over.wait(SOON_S)

    begin(everything)
    begin(lambda: None).join()
    assert not quiet.wait(NOT_YET_S)
    release.set()
    assert quiet.wait(SOON_S)
    begin(lambda: hold(turns, "b", late))
    assert not late.wait(NOT_YET_S)
    over.set()
    assert late.wait(SOON_S)


def test_a_change_that_never_ends_does_not_hold_up_others_through_those_who_want_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wye.engine.turns._HELD_UP_S", 0.2)
    turns, changing, release, given_up, other = Turns(), *(threading.Event() for _ in range(4))
    begin(lambda: hold(turns, "a", changing, release))
    assert changing.wait(SOON_S)

    def everything() -> None:
        try:
            with turns.all(patience_s=0.1):
                pass
        except Unavailable:
            given_up.set()

    begin(everything)
    begin(lambda: hold(turns, "b", other))
    assert other.wait(SOON_S)
    assert given_up.wait(SOON_S)
    release.set()
    with turns.all(patience_s=0.1):
        pass


def test_who_waited_for_a_forgotten_name_queues_up_with_the_others() -> None:
    turns, holds, forgotten, waits = Turns(), *(threading.Event() for _ in range(3))
    inside, most = [0], [0]
    guard = threading.Lock()

    def first() -> None:
        with turns.one("a"):
            holds.set()
            waits.wait(SOON_S)
            turns.forget("a")
            forgotten.set()

    def counted() -> None:
        with turns.one("a"):
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            threading.Event().wait(NOT_YET_S)
            with guard:
                inside[0] -= 1

    begin(first)
    assert holds.wait(SOON_S)
    waiter = begin(counted)
    # The waiter has no way to say that it waits; if it comes late, the test is merely an easier one.
    threading.Event().wait(NOT_YET_S)
    waits.set()
    assert forgotten.wait(SOON_S)
    later = begin(counted)
    waiter.join(SOON_S)
    later.join(SOON_S)
    assert most == [1]


def test_who_only_looks_waits_for_what_is_halfway_and_it_for_them() -> None:
    turns = Turns()
    begun, looked, changed, leave, end = (threading.Event() for _ in range(5))

    def look() -> None:
        with turns.whole("a"):
            looked.set()
            leave.wait(SOON_S)

    def change() -> None:
        with turns.one("a"):
            begun.set()
            with turns.halfway("a"):
                changed.set()
                end.wait(SOON_S)

    begin(look)
    assert looked.wait(SOON_S)
    begin(change)
    assert begun.wait(SOON_S)
    assert not changed.wait(NOT_YET_S), "somebody looks"
    leave.set()
    assert changed.wait(SOON_S)
    looked.clear()
    begin(look)
    with turns.whole("b"):
        assert not looked.wait(NOT_YET_S), "it is halfway"
    end.set()
    assert looked.wait(SOON_S)
