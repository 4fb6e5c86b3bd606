"""What collect may delete: nothing that a ref reaches, nothing that a verb has just put."""

from __future__ import annotations

import pytest

from wye.model import EnvironmentName, Intent, IntentId, ObjectId, Verb
from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.store.objects import ObjectMissing
from wye.store.values import GRACE_S
from wye.testing.histories import History
from wye.testing.mock_clock import ClockHost

PRODUCTION = EnvironmentName("production")
FIX = EnvironmentName("fix-1")


def test_nothing_reaches_nothing(ledger: Ledger) -> None:
    found = ledger.reachable()
    assert not found.objects
    assert not found.snapshots
    assert not found.images


def test_an_environment_needs_all_its_history(ledger: Ledger, history: History, store: MemoryStore) -> None:
    history.chain("production", 3)
    found = ledger.reachable()
    assert found.snapshots == {"snapshot-1", "snapshot-2", "snapshot-3"}
    assert found.images == {"sha256:1", "sha256:2", "sha256:3"}
    assert found.objects == set(store.ids())


def test_a_fork_keeps_the_revision_that_it_started_from(ledger: Ledger, history: History) -> None:
    ids = history.chain("production", 3)
    history.chain("fix-1", 1, origin=history.revision(ids[1]))
    ledger.discard(PRODUCTION, ids[2], history.entry("production", ids[2], verb=Verb.DISCARD))
    found = ledger.reachable()
    assert found.snapshots == {"snapshot-2", "snapshot-4"}
    assert found.images == {"sha256:2", "sha256:4"}
    assert ObjectId(history.revision(ids[0])) in found.objects


def test_a_discarded_environment_keeps_its_ledger_and_no_bytes(
    ledger: Ledger, history: History, clock: ClockHost
) -> None:
    ids = history.chain("fix-1", 2)
    last = ledger.discard(FIX, ids[-1], history.entry("fix-1", ids[-1], verb=Verb.DISCARD))
    clock.advance(GRACE_S + 1)
    assert not ledger.reachable().snapshots
    assert not ledger.reachable().images
    assert ledger.delete_unreachable() == 0
    assert [entry_id for entry_id, _ in ledger.walk(last)] == [last, *ids[::-1]]
    ledger.get_revision(history.revision(ids[0]))


def test_evidence_lives_as_long_as_an_argument_names_it(ledger: Ledger, history: History, clock: ClockHost) -> None:
    kept, lost = ledger.put_value({"rows": 1}), ledger.put_value({"rows": 2})
    ledger.append(PRODUCTION, None, history.entry("production", None, arguments={"evidence": kept, "note": "x"}))
    clock.advance(GRACE_S + 1)
    assert ledger.delete_unreachable() == 1
    assert ledger.get_value(kept) == {"rows": 1}
    with pytest.raises(ObjectMissing):
        ledger.get_value(lost)


def test_intents_are_kept(ledger: Ledger, clock: ClockHost) -> None:
    intent = Intent(id=IntentId("a" * 12), verb=Verb.FORK, environment=FIX, actor="ada", at=1.0)
    ledger.begin(intent)
    clock.advance(GRACE_S + 1)
    assert ledger.delete_unreachable() == 0
    assert ledger.intents() == [intent]
    ledger.end(intent.id)
    assert ledger.delete_unreachable() == 1


def test_what_a_verb_has_just_put_is_not_deleted(ledger: Ledger, history: History, clock: ClockHost) -> None:
    (first,) = history.chain("production", 1)
    clock.advance(GRACE_S + 1)
    entry = history.entry("production", first)
    assert ledger.delete_unreachable() == 0
    ledger.append(PRODUCTION, first, entry)
    assert ledger.verify(PRODUCTION).is_sound


def test_what_is_put_again_is_young_again(ledger: Ledger, clock: ClockHost) -> None:
    value = ledger.put_value({"rows": 1})
    clock.advance(GRACE_S + 1)
    assert ledger.put_value({"rows": 1}) == value
    assert ledger.delete_unreachable() == 0
    clock.advance(GRACE_S + 1)
    assert ledger.delete_unreachable() == 1


def test_a_restart_makes_nothing_young(ledger: Ledger, store: MemoryStore) -> None:
    ledger.put_value({"rows": 1})
    assert Ledger(store, store).delete_unreachable() == 1


def test_what_was_deleted_is_not_remembered(ledger: Ledger, history: History, clock: ClockHost) -> None:
    entry = history.entry("production", None)
    ledger.get_revision(entry.environment.revision)
    clock.advance(GRACE_S + 1)
    assert ledger.delete_unreachable() == 2
    with pytest.raises(ObjectMissing):
        ledger.get_revision(entry.environment.revision)


def test_a_hole_in_a_chain_stops_collect(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("production", 3)
    store.delete(ObjectId(ids[0]))
    with pytest.raises(ObjectMissing):
        Ledger(store, store).delete_unreachable()
    assert len(set(store.ids())) == 8
