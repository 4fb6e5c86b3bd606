"""Append, walk, end, settle, intents, prefixes. A crash between two swaps is played by a store that stops there."""

from __future__ import annotations

import dataclasses

import pytest

from wye.errors import BadRequest, InvariantError, NotFound
from wye.model import EntryId, EnvironmentName, Intent, IntentId, ObjectId, Verb
from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.store.objects import ObjectDamaged, ObjectMissing
from wye.store.refs import RefConflict
from wye.store.values import Ambiguous, Values
from wye.testing.histories import History

PRODUCTION = EnvironmentName("production")
FIX = EnvironmentName("fix-1")
NEW = EnvironmentName("fix-2")


class Died(Exception):
    """What a kill looks like from within one process: nobody handles it."""


class DyingRefs(MemoryStore):
    """Stops for good at swap number `dies_at`, counted from when it is set."""

    dies_at: int | None = None

    def compare_and_swap(
        self, ref: str, *, expected: ObjectId | None, new: ObjectId | None, durable: bool = True
    ) -> None:
        if self.dies_at is not None:
            self.dies_at -= 1
            if self.dies_at <= 0:
                raise Died
        super().compare_and_swap(ref, expected=expected, new=new, durable=durable)


def test_no_environment_has_no_head(ledger: Ledger) -> None:
    assert ledger.head(PRODUCTION) is None
    assert ledger.head_id(PRODUCTION) is None
    assert ledger.environments() == {}


def test_append_moves_the_head(ledger: Ledger, history: History) -> None:
    first, second = history.chain("production", 2)
    head = ledger.head(PRODUCTION)
    assert head is not None
    assert head[0] == second == ledger.head_id(PRODUCTION)
    assert head[1].previous == first
    assert ledger.environments() == {PRODUCTION: head[1]}


def test_append_after_somebody_else_is_a_conflict(ledger: Ledger, history: History) -> None:
    first, second = history.chain("production", 2)
    for expected in (None, first):
        with pytest.raises(RefConflict):
            ledger.append(PRODUCTION, expected, history.entry("production", expected))
    assert ledger.head_id(PRODUCTION) == second


def test_append_refuses_what_does_not_fit(ledger: Ledger, history: History) -> None:
    (first,) = history.chain("production", 1)
    with pytest.raises(InvariantError, match="cannot follow"):
        ledger.append(PRODUCTION, first, history.entry("production", None))
    with pytest.raises(InvariantError, match="ledger of"):
        ledger.append(PRODUCTION, first, history.entry("fix-1", first))
    with pytest.raises(BadRequest):
        ledger.append(EnvironmentName("../x"), None, history.entry("../x", None))


def test_a_clock_set_back_does_not_turn_the_ledger(ledger: Ledger, history: History) -> None:
    (first,) = history.chain("production", 1)
    second = ledger.append(PRODUCTION, first, history.entry("production", first, at=0.25))
    assert ledger.get_entry(second).at == ledger.get_entry(first).at
    assert ledger.verify(PRODUCTION).is_sound


def test_walk_goes_back_to_the_first(ledger: Ledger, history: History) -> None:
    ids = history.chain("production", 5)
    assert [entry_id for entry_id, _ in ledger.walk(ids[-1])] == ids[::-1]
    assert [entry_id for entry_id, _ in ledger.walk(ids[-1], limit=2)] == ids[:2:-1]
    assert [entry_id for entry_id, _ in ledger.walk(ids[2], limit=9)] == ids[2::-1]
    assert list(ledger.walk(ids[-1], limit=0)) == []


# ---------------------------------------------------------------- discard


def test_discard_keeps_the_ledger_under_another_name(ledger: Ledger, history: History) -> None:
    ids = history.chain("fix-1", 2)
    last = ledger.discard(FIX, ids[-1], history.entry("fix-1", ids[-1], verb=Verb.DISCARD))
    assert ledger.head(FIX) is None
    [(entry_id, entry)] = ledger.discarded()
    assert entry_id == last
    assert [i for i, _ in ledger.walk(entry_id)] == [last, *ids[::-1]]
    assert entry.verb is Verb.DISCARD


def test_a_name_can_be_used_and_discarded_again(ledger: Ledger, history: History) -> None:
    lasts = []
    for _ in range(3):
        (only,) = history.chain("fix-1", 1)
        lasts.append(ledger.discard(FIX, only, history.entry("fix-1", only, verb=Verb.DISCARD)))
    history.chain("fix-1", 1)
    assert [entry_id for entry_id, _ in ledger.discarded()] == lasts[::-1]
    assert ledger.settle() == []
    assert list(ledger.environments()) == [FIX]


def test_discard_of_what_has_moved_on_changes_nothing(ledger: Ledger, history: History, store: MemoryStore) -> None:
    first, _ = history.chain("fix-1", 2)
    before = store.list("")
    with pytest.raises(RefConflict):
        ledger.discard(FIX, first, history.entry("fix-1", first, verb=Verb.DISCARD))
    assert store.list("") == before


@pytest.mark.parametrize("again", ["settle", "discard"])
@pytest.mark.parametrize("dies_at", [1, 2])
def test_discard_cut_short_loses_nothing_and_is_finished(dies_at: int, again: str) -> None:
    store = DyingRefs()
    ledger = Ledger(store, store)
    history = History(ledger)
    ids = history.chain("fix-1", 2)
    entry = history.entry("fix-1", ids[-1], verb=Verb.DISCARD)
    store.dies_at = dies_at
    with pytest.raises(Died):
        ledger.discard(FIX, ids[-1], entry)
    store.dies_at = None

    ledger = Ledger(store, store)
    assert ledger.head_id(FIX) == ids[-1]
    assert ledger.discarded() == []
    if again == "settle":
        assert ledger.settle() == ([FIX] if dies_at == 2 else [])
    else:
        ledger.discard(FIX, ids[-1], dataclasses.replace(entry, at=99.0))
    if again == "discard" or dies_at == 2:
        assert ledger.head(FIX) is None
        assert len(ledger.discarded()) == 1
    else:
        assert ledger.verify(FIX).is_sound
    assert ledger.settle() == []


# ---------------------------------------------------------------- rename


def test_rename_moves_the_chain(ledger: Ledger, history: History) -> None:
    ids = history.chain("fix-1", 2)
    last = ledger.rename(FIX, ids[-1], history.entry("fix-2", ids[-1], verb=Verb.RENAME))
    assert ledger.head_id(NEW) == last
    assert ledger.head(FIX) is None
    assert ledger.verify(NEW).entries == 3
    assert ledger.verify(NEW).is_sound
    assert ledger.settle() == []


def test_rename_to_a_name_that_is_taken_changes_nothing(ledger: Ledger, history: History, store: MemoryStore) -> None:
    (only,) = history.chain("fix-1", 1)
    history.chain("fix-2", 1)
    before = store.list("")
    with pytest.raises(RefConflict):
        ledger.rename(FIX, only, history.entry("fix-2", only, verb=Verb.RENAME))
    assert store.list("") == before


def test_rename_of_what_has_moved_on_changes_nothing(ledger: Ledger, history: History, store: MemoryStore) -> None:
    first, _ = history.chain("fix-1", 2)
    before = store.list("")
    with pytest.raises(RefConflict):
        ledger.rename(FIX, first, history.entry("fix-2", first, verb=Verb.RENAME))
    assert store.list("") == before


@pytest.mark.parametrize("dies_at", [1, 2])
def test_rename_cut_short_leaves_one_environment(dies_at: int) -> None:
    store = DyingRefs()
    ledger = Ledger(store, store)
    history = History(ledger)
    (only,) = history.chain("fix-1", 1)
    entry = history.entry("fix-2", only, verb=Verb.RENAME)
    store.dies_at = dies_at
    with pytest.raises(Died):
        ledger.rename(FIX, only, entry)
    store.dies_at = None

    ledger = Ledger(store, store)
    assert ledger.settle() == ([FIX] if dies_at == 2 else [])
    assert list(ledger.environments()) == ([NEW] if dies_at == 2 else [FIX])


def test_the_old_name_can_be_used_again(ledger: Ledger, history: History) -> None:
    (only,) = history.chain("fix-1", 1)
    ledger.rename(FIX, only, history.entry("fix-2", only, verb=Verb.RENAME))
    history.chain("fix-1", 1)
    assert ledger.settle() == []
    assert list(ledger.environments()) == [FIX, NEW]


# ---------------------------------------------------------------- intents


def intent(name: str, at: float) -> Intent:
    return Intent(id=IntentId(name * 12), verb=Verb.FORK, environment=FIX, actor="ada", at=at)


def test_intents_are_there_from_begin_to_end(ledger: Ledger) -> None:
    late, early = intent("a", 2.0), intent("b", 1.0)
    ledger.begin(late)
    ledger.begin(early)
    assert ledger.intents() == [early, late]
    with pytest.raises(RefConflict):
        ledger.begin(early)
    ledger.end(late.id)
    ledger.end(late.id)
    assert ledger.intents() == [early]


# ---------------------------------------------------------------- values


def test_values_come_back(ledger: Ledger) -> None:
    evidence = {"rows": [1, 2.5, None], "ok": True}
    assert ledger.get_value(ledger.put_value(evidence)) == evidence


def test_what_is_asked_for_as_something_else_is_refused(ledger: Ledger, history: History) -> None:
    (only,) = history.chain("production", 1)
    for _ in range(2):
        with pytest.raises(NotFound):
            ledger.get_spec(ObjectId("0" * 64))
        with pytest.raises(Exception, match="'entry', not 'spec'"):
            ledger.get_spec(ObjectId(only))
        ledger.get_entry(only)


def test_damaged_objects_are_never_used(ledger: Ledger, history: History, store: MemoryStore) -> None:
    (only,) = history.chain("production", 1)
    good = store.get(ObjectId(only))
    store._objects[ObjectId(only)] = good.replace(b"ada", b"eve")  # noqa: SLF001
    with pytest.raises(ObjectDamaged, match=only):
        Ledger(store, store).head(PRODUCTION)


def test_memory_is_bounded_and_forgets_the_longest_unused(store: MemoryStore) -> None:
    writing = Ledger(store, store)
    ids = History(writing).chain("production", 30)
    size = len(store.get(ObjectId(ids[0])))
    values = Values(store, kept_bytes=size * 10)
    entries = [values.get(ObjectId(entry_id), type(writing.get_entry(entry_id))) for entry_id in ids]
    assert values.get(ObjectId(ids[-1]), type(entries[-1])) is entries[-1]
    assert values.get(ObjectId(ids[0]), type(entries[0])) is not entries[0]
    assert values._kept_size <= size * 10  # noqa: SLF001


# ---------------------------------------------------------------- prefixes


def test_ids_are_found_by_prefix_and_type(ledger: Ledger, history: History) -> None:
    ids = history.chain("production", 3)
    for entry_id in ids:
        revision = history.revision(entry_id)
        assert ledger.find_revision(revision[:12]) == revision
        assert ledger.find_revision(f" {revision.upper()} ") == revision
        assert ledger.find_entry(entry_id[:12]) == entry_id
        with pytest.raises(NotFound, match="no revision"):
            ledger.find_revision(entry_id)


@pytest.mark.parametrize("prefix", ["", "abc", "xyzw", "a" * 65, "%%%%", "abc/", "ab-d"])
def test_what_is_no_prefix_is_refused(ledger: Ledger, prefix: str) -> None:
    with pytest.raises(BadRequest):
        ledger.find_revision(prefix)


def test_a_prefix_that_several_share_is_ambiguous(ledger: Ledger, history: History) -> None:
    by_prefix: dict[str, EntryId] = {}
    previous: EntryId | None = None
    while True:
        entry_id = ledger.append(PRODUCTION, previous, history.entry("production", previous))
        if entry_id[:4] in by_prefix:
            break
        by_prefix[entry_id[:4]] = previous = entry_id
    with pytest.raises(Ambiguous, match="2 entry ids") as raised:
        ledger.find_entry(entry_id[:4])
    assert entry_id[:8] in raised.value.message
    assert ledger.find_entry(entry_id[:12]) == entry_id


def test_missing_entry_is_said(ledger: Ledger) -> None:
    with pytest.raises(ObjectMissing):
        ledger.get_entry(EntryId("0" * 64))


def test_an_entry_is_decoded_once(ledger: Ledger, history: History) -> None:
    history.chain("production", 1)
    first = ledger.head(PRODUCTION)
    again = ledger.head(PRODUCTION)
    assert first is not None
    assert again is not None
    assert first[1] is again[1]
