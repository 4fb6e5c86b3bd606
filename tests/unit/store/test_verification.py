"""Every byte of a history counts: any that is changed, dropped or exchanged is found and named."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from pathlib import Path

import pytest

from wye.errors import NotFound
from wye.host import Host
from wye.model import EntryId, EnvironmentName, ObjectId, Verb
from wye.store import codec
from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.store.sqlite import SqliteStore
from wye.testing.histories import History

PRODUCTION = EnvironmentName("production")


def tamper(store: MemoryStore, object_id: str, data: bytes) -> None:
    store._objects[ObjectId(object_id)] = data  # noqa: SLF001


def point(store: MemoryStore, target: str) -> None:
    store.compare_and_swap(
        "environments/production", expected=store.read("environments/production"), new=ObjectId(target)
    )


def test_a_whole_history_is_sound(ledger: Ledger, history: History) -> None:
    ids = history.chain("production", 4)
    found = ledger.verify(PRODUCTION)
    assert found.is_sound
    assert (found.head, found.entries, found.revisions, found.specs) == (ids[-1], 4, 4, 4)


def test_there_must_be_something_to_verify(ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        ledger.verify(PRODUCTION)


def test_any_changed_byte_is_found(ledger: Ledger, history: History, store: MemoryStore) -> None:
    """Every object of the history, every byte of it, with a ledger that has all of it in its memory."""
    ids = history.chain("production", 3)
    ledger.reachable()
    changed = 0
    for object_id in list(store.ids()):
        good = store.get(object_id)
        for position in range(len(good)):
            tamper(store, object_id, good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            broken = ledger.verify(PRODUCTION).broken
            assert broken is not None
            assert broken.id == object_id
            assert "holds other bytes" in broken.reason
            changed += 1
        tamper(store, object_id, good)
    assert changed > 3000
    assert ledger.verify(PRODUCTION).is_sound
    assert ledger.head_id(PRODUCTION) == ids[-1]


def test_the_first_broken_link_is_named(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("production", 5)
    store.delete(ObjectId(ids[1]))
    found = ledger.verify(PRODUCTION)
    assert found.entries == 3
    assert found.broken is not None
    assert (found.broken.kind, found.broken.id, found.broken.position) == ("entry", ids[1], 3)
    assert "not in the store" in found.broken.reason


def test_a_missing_spec_is_named_with_its_entry(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("production", 3)
    spec = ledger.get_entry(ids[1]).environment.spec
    store.delete(spec)
    broken = ledger.verify(PRODUCTION).broken
    assert broken is not None
    # The newest entry's revision leads back to the older one's.
    assert (broken.kind, broken.id, broken.entry, broken.position) == ("spec", spec, ids[2], 0)


def test_a_missing_origin_is_found(ledger: Ledger, history: History, store: MemoryStore) -> None:
    (only,) = history.chain("production", 1)
    origin = history.revision(only)
    history.chain("fix-1", 1, origin=origin)
    store.delete(ObjectId(origin))
    broken = ledger.verify(EnvironmentName("fix-1")).broken
    assert broken is not None
    assert (broken.kind, broken.id) == ("revision", origin)


def test_a_ref_to_something_else_is_found(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("production", 2)
    point(store, history.revision(ids[0]))
    broken = ledger.verify(PRODUCTION).broken
    assert broken is not None
    assert "'revision', not 'entry'" in broken.reason


def test_another_environments_ledger_is_found(ledger: Ledger, history: History, store: MemoryStore) -> None:
    history.chain("production", 2)
    other = history.chain("fix-1", 2)
    point(store, other[-1])
    broken = ledger.verify(PRODUCTION).broken
    assert broken is not None
    assert "it is of 'fix-1', in the ledger of 'production'" in broken.reason


def forged(store: MemoryStore, ledger: Ledger, ids: list[EntryId], **changes: object) -> EntryId:
    """An entry with a right id that was never appended."""
    entry = dataclasses.replace(ledger.get_entry(ids[-1]), previous=ids[-1], **changes)  # type: ignore[arg-type]
    forged = EntryId(store.put(codec.encode(entry)))
    point(store, forged)
    return forged


def test_time_that_runs_backwards_is_found(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("production", 2)
    forged(store, ledger, ids, at=0.5)
    broken = ledger.verify(PRODUCTION).broken
    assert broken is not None
    assert (broken.id, broken.position) == (ids[-1], 1)
    assert "time" in broken.reason


def test_a_name_may_change_only_at_a_rename(ledger: Ledger, history: History, store: MemoryStore) -> None:
    ids = history.chain("fix-1", 2)
    store.compare_and_swap("environments/production", expected=None, new=ObjectId(ids[-1]))
    environment = dataclasses.replace(ledger.get_entry(ids[-1]).environment, name=PRODUCTION)
    forged(store, ledger, ids, environment=environment, verb=Verb.RENAME)
    assert ledger.verify(PRODUCTION).is_sound
    forged(store, ledger, ids, environment=environment, verb=Verb.START)
    assert not ledger.verify(PRODUCTION).is_sound


def test_a_ref_moved_back_is_seen_by_whoever_noted_the_head(
    ledger: Ledger, history: History, store: MemoryStore
) -> None:
    """The chain alone cannot show it: what is left is whole."""
    ids = history.chain("production", 3)
    noted = ledger.head_id(PRODUCTION)
    point(store, ids[1])
    assert ledger.verify(PRODUCTION).is_sound
    head = ledger.head_id(PRODUCTION)
    assert head is not None
    assert noted not in {entry_id for entry_id, _ in ledger.walk(head)}


def test_hands_in_the_sqlite_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with contextlib.closing(SqliteStore(Host(), path)) as store:
        ledger = Ledger(store, store)
        ids = History(ledger).chain("production", 3)
        with contextlib.closing(sqlite3.connect(path)) as hand:
            hand.execute("UPDATE objects SET data = replace(data, 'ada', 'eve') WHERE id = ?", (ids[0],))
            hand.commit()
        found = ledger.verify(PRODUCTION)
    assert found.entries == 2
    assert found.broken is not None
    assert (found.broken.id, found.broken.position) == (ids[0], 2)
