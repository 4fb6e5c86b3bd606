"""Names that point at objects: which are allowed, and what it means to be late.

Every ref lives in a room of its own with its own pattern; anything else is refused before it reaches a store,
because some stores turn refs into paths or keys. No room allows a dot, an empty segment or more than 200
characters.

    environments/<name>           the newest entry of an environment
    discarded/<name>/<entry>      the last entry of one that is gone; <entry>: the id's first 16 hex digits
    intents/<id>                  a verb that has begun and not ended
    requests/<key>                the answer to a request that may be repeated; also requests/<who>/<key>
"""

from __future__ import annotations

import re

from wye.errors import BadRequest, Conflict
from wye.model import ID, NAME, EntryId, EnvironmentName, IntentId, ObjectId

ENVIRONMENTS = "environments/"
DISCARDED = "discarded/"
INTENTS = "intents/"
REQUESTS = "requests/"

MAX_LENGTH = 200
ENTRY_DIGITS = 16

_KEY = r"[A-Za-z0-9_-]{1,64}"
_PATTERN = re.compile(
    rf"environments/(?:{NAME.pattern})"
    rf"|discarded/(?:{NAME.pattern})/[0-9a-f]{{{ENTRY_DIGITS}}}"
    rf"|intents/(?:{ID.pattern})"
    rf"|requests/{_KEY}(?:/{_KEY})?"
)


class RefConflict(Conflict):
    """A ref does not point at what the caller expected: somebody else was first."""

    code = "ref_conflict"

    def __init__(self, ref: str, *, expected: ObjectId | None, found: ObjectId | None) -> None:
        super().__init__(
            f"{ref} {_state(found)}, where {_state(expected, expected=True)}",
            hint="somebody else changed it at the same time; look again and repeat",
        )
        self.ref = ref
        self.expected = expected
        self.found = found


def checked(ref: str) -> str:
    """`ref`, if it may name something. Raises BadRequest."""
    if len(ref) > MAX_LENGTH or _PATTERN.fullmatch(ref) is None:
        raise BadRequest(
            f"{ref[:MAX_LENGTH]!r} cannot name anything in the store",
            hint="names have lower-case letters, digits, '-' and '_', and at most 63 characters",
        )
    return ref


def environment(name: EnvironmentName) -> str:
    return checked(f"{ENVIRONMENTS}{name}")


def intent(intent_id: IntentId) -> str:
    return checked(f"{INTENTS}{intent_id}")


def discarded(name: EnvironmentName, entry_id: EntryId) -> str:
    return checked(f"{DISCARDED}{name}/{entry_id[:ENTRY_DIGITS]}")


def _state(object_id: ObjectId | None, *, expected: bool = False) -> str:
    if object_id is None:
        return "nothing was expected" if expected else "does not exist"
    return f"{object_id[:12]} was expected" if expected else f"points at {object_id[:12]}"
