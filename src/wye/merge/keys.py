"""Three-way merge of a key-value store (Redis and its kin), key by key.

A key's value is opaque here: its type, a digest of its content and when it expires. Hashes, sets and sorted sets can be
merged by field where the project asks for it: then the caller gives the fields. Time to live is a part of the value of
its own: one side may change it while the other changes the content.

The outcome says for each key what the target should hold: theirs's whole value, a set of fields, an expiry, or
nothing. Writes carry what is expected in the target, so that the one who applies can compare and refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from wye.merge.conflict import BOTH, Conflict, Decisions, Json, Side

FIELD_TYPES = frozenset({"hash", "set", "zset"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """`digest` of the content, not counting the expiry; `expires_ms`: Unix milliseconds, None for never.

    `fields`: of a hash (field, value), a set (member, "") or a sorted set (member, score), where fields are merged.
    """

    type: str
    digest: str
    expires_ms: int | None = None
    fields: tuple[tuple[str, str], ...] | None = None

    def is_same_content(self, other: KeyValue) -> bool:
        return (self.type, self.digest) == (other.type, other.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTriple:
    """One key of one database on the three sides; None: it is not there."""

    place: str
    key: str
    base: KeyValue | None
    ours: KeyValue | None
    theirs: KeyValue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWrite:
    """`content`: "theirs" (take its value whole), "ours" (leave the content), "fields" (set and unset) or "delete"."""

    place: str
    key: str
    expected: KeyValue | None
    content: str
    expires_ms: int | None = None
    set_fields: tuple[tuple[str, str], ...] = ()
    unset_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedKeys:
    writes: list[KeyWrite] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def merge_keys(triples: Iterable[KeyTriple], decisions: Decisions | None = None) -> MergedKeys:
    """Merges the keys that theirs changed. Only whole keys and expiries can be resolved, with ours or theirs."""
    decisions = Decisions() if decisions is None else decisions
    merged = MergedKeys(conflicts=decisions.open)
    for triple in triples:
        write = _merge_key(triple, decisions)
        if write is not None:
            merged.writes.append(write)
    return merged


def _merge_key(triple: KeyTriple, decisions: Decisions) -> KeyWrite | None:
    base, ours, theirs = triple.base, triple.ours, triple.theirs
    if theirs in (base, ours):
        return None
    if base == ours:
        return _take_theirs(triple)
    if base is None or ours is None or theirs is None:
        kind = "update/delete" if ours is None else "delete/update" if theirs is None else "insert/insert"
        return _take_theirs(triple) if _theirs_wins(triple, decisions, kind, "") else None
    return _merge_both(triple, base, ours, theirs, decisions)


def _merge_both(
    triple: KeyTriple, base: KeyValue, ours: KeyValue, theirs: KeyValue, decisions: Decisions
) -> KeyWrite | None:
    expires_ms = ours.expires_ms
    if theirs.expires_ms not in (base.expires_ms, ours.expires_ms) and (
        base.expires_ms == ours.expires_ms or _theirs_wins(triple, decisions, "expiry/expiry", "expires")
    ):
        expires_ms = theirs.expires_ms
    write = KeyWrite(place=triple.place, key=triple.key, expected=ours, content="ours", expires_ms=expires_ms)
    if not (theirs.is_same_content(base) or theirs.is_same_content(ours)):
        if base.is_same_content(ours):
            write = replace(write, content="theirs")
        elif base.type == ours.type == theirs.type and None not in (base.fields, ours.fields, theirs.fields):
            write = _merge_fields(triple, write, decisions)
        elif _theirs_wins(triple, decisions, "update/update", ""):
            write = replace(write, content="theirs")
    return None if write.content == "ours" and expires_ms == ours.expires_ms else write


def _merge_fields(triple: KeyTriple, write: KeyWrite, decisions: Decisions) -> KeyWrite:
    base, ours, theirs = (
        dict(side.fields if side and side.fields else ()) for side in (triple.base, triple.ours, triple.theirs)
    )
    changed: list[tuple[str, str]] = []
    removed: list[str] = []
    for name in sorted(base.keys() | theirs.keys()):
        was, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if other in (was, mine):
            continue
        if was != mine:
            conflict = Conflict(
                kind="update/update",
                place=triple.place,
                key=(triple.key,),
                column=name,
                base=was,
                ours=mine,
                theirs=other,
                choices=BOTH,
            )
            chosen = decisions.of(conflict)
            if chosen is None or chosen.side is Side.OURS:
                continue
        if other is None:
            removed.append(name)
        else:
            changed.append((name, other))
    if not changed and not removed:
        return write
    return replace(write, content="fields", set_fields=tuple(changed), unset_fields=tuple(removed))


def _take_theirs(triple: KeyTriple) -> KeyWrite:
    theirs = triple.theirs
    return KeyWrite(
        place=triple.place,
        key=triple.key,
        expected=triple.ours,
        content="theirs" if theirs else "delete",
        expires_ms=theirs.expires_ms if theirs else None,
    )


def _theirs_wins(triple: KeyTriple, decisions: Decisions, kind: str, column: str) -> bool:
    conflict = Conflict(
        kind=kind,
        place=triple.place,
        key=(triple.key,),
        column=column,
        base=_to_json(triple.base),
        ours=_to_json(triple.ours),
        theirs=_to_json(triple.theirs),
        choices=BOTH,
    )
    chosen = decisions.of(conflict)
    return chosen is not None and chosen.side is Side.THEIRS


def _to_json(value: KeyValue | None) -> Json:
    if value is None:
        return None
    return {"type": value.type, "digest": value.digest, "expires_ms": value.expires_ms}
