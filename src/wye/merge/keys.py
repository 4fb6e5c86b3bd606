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

from wye.errors import BadRequest
from wye.merge.conflict import ALL, BOTH, Conflict, Decisions, Json, Resolution, Side

FIELD_TYPES = frozenset({"hash", "set", "zset"})
_GIVEN_TYPES = frozenset({"string", "list", *FIELD_TYPES})
"""Of which a person can write down a value."""


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
    """One key of one database on the three sides; None: it is not there. `detail`: what people should know of it if its
    content is in conflict."""

    place: str
    key: str
    base: KeyValue | None
    ours: KeyValue | None
    theirs: KeyValue | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenValue:
    """A value that a person wrote down. `items`: of a string (its text,), a list or set (item, ...), a hash (field,
    value, ...) or a sorted set (score, member, ...)."""

    type: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWrite:
    """`content`: "theirs" (take its value whole), "ours" (leave the content), "fields" (set and unset), "given" or
    "delete"."""

    place: str
    key: str
    expected: KeyValue | None
    content: str
    expires_ms: int | None = None
    set_fields: tuple[tuple[str, str], ...] = ()
    unset_fields: tuple[str, ...] = ()
    given: GivenValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedKeys:
    writes: list[KeyWrite] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def merge_keys(triples: Iterable[KeyTriple], decisions: Decisions | None = None) -> MergedKeys:
    """Merges the keys that theirs changed. An expiry is resolved with ours or theirs; a content may also be given if
    it can be written down. Raises BadRequest for what is none."""
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
        write = _take_theirs(triple)
        other = theirs or ours
        chosen = _content(triple, write, decisions, kind, other.expires_ms if other else None)
        return None if chosen is None or chosen.content == "ours" else chosen
    return _merge_both(triple, base, ours, theirs, decisions)


def _merge_both(
    triple: KeyTriple, base: KeyValue, ours: KeyValue, theirs: KeyValue, decisions: Decisions
) -> KeyWrite | None:
    expires_ms = ours.expires_ms
    if theirs.expires_ms not in (base.expires_ms, ours.expires_ms) and (
        base.expires_ms == ours.expires_ms or _theirs_expires(triple, decisions)
    ):
        expires_ms = theirs.expires_ms
    write = KeyWrite(place=triple.place, key=triple.key, expected=ours, content="ours", expires_ms=expires_ms)
    if not (theirs.is_same_content(base) or theirs.is_same_content(ours)):
        if base.is_same_content(ours):
            write = replace(write, content="theirs")
        elif base.type == ours.type == theirs.type and None not in (base.fields, ours.fields, theirs.fields):
            write = _merge_fields(triple, write, decisions)
        else:
            taken = replace(write, content="theirs")
            write = _content(triple, taken, decisions, "update/update", expires_ms) or write
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
                choices=BOTH if triple.theirs and triple.theirs.type == "set" else ALL,
            )
            chosen = decisions.of(conflict)
            if chosen is None or chosen.side is Side.OURS:
                continue
            if chosen.side is Side.VALUE:
                other = _text(
                    conflict, chosen.value, is_score=triple.theirs is not None and triple.theirs.type == "zset"
                )
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


def _content(
    triple: KeyTriple, theirs: KeyWrite, decisions: Decisions, kind: str, expires_ms: int | None
) -> KeyWrite | None:
    """What was decided about a key's content: `theirs` as it would be taken, a given value, or None for ours."""
    types = {side.type for side in (triple.ours, triple.theirs) if side is not None}
    conflict = _conflict(triple, kind, "", ALL if types <= _GIVEN_TYPES else BOTH)
    chosen = decisions.of(conflict)
    if chosen is None or chosen.side is Side.OURS:
        return None
    if chosen.side is Side.THEIRS:
        return theirs
    like = triple.theirs or triple.ours
    given = _given(conflict, chosen, like.type if like else "")
    return replace(theirs, content="given", given=given, expires_ms=expires_ms)


def _theirs_expires(triple: KeyTriple, decisions: Decisions) -> bool:
    chosen = decisions.of(_conflict(triple, "expiry/expiry", "expires", BOTH))
    return chosen is not None and chosen.side is Side.THEIRS


def _conflict(triple: KeyTriple, kind: str, column: str, choices: frozenset[Side]) -> Conflict:
    return Conflict(
        kind=kind,
        place=triple.place,
        key=(triple.key,),
        column=column,
        base=_to_json(triple.base),
        ours=_to_json(triple.ours),
        theirs=_to_json(triple.theirs),
        choices=choices,
        detail=triple.detail,
    )


def _given(conflict: Conflict, chosen: Resolution, like: str) -> GivenValue:
    """A text is a string, a list is a list or, where the sides have one, a set; a mapping is a hash or a sorted set."""
    value = chosen.value
    if isinstance(value, list) and value:
        return GivenValue(type="set" if like == "set" else "list", items=tuple(_text(conflict, each) for each in value))
    if isinstance(value, dict) and value:
        if like == "zset":
            pairs = [(_text(conflict, score, is_score=True), str(member)) for member, score in value.items()]
            return GivenValue(type="zset", items=tuple(part for pair in pairs for part in pair))
        fields = [(str(name), _text(conflict, each)) for name, each in value.items()]
        return GivenValue(type="hash", items=tuple(part for pair in fields for part in pair))
    return GivenValue(type="string", items=(_text(conflict, value),))


def _text(conflict: Conflict, value: Json, *, is_score: bool = False) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return str(float(value)) if is_score else str(value)
        except ValueError:
            pass
    wanted = "a number" if is_score else "a text or a number"
    raise BadRequest(
        f"conflict {conflict.id}: {str(value)[:80]!r} is not {wanted}",
        hint="a key's value is a text, a list that is not empty, or a mapping that is not empty",
    )


def _to_json(value: KeyValue | None) -> Json:
    if value is None:
        return None
    return {"type": value.type, "digest": value.digest, "expires_ms": value.expires_ms}
