"""When a merge begins again because others were in its way, and what is said of an error when it does not.

Who was quicker with a row of the merge has written another version of it, or moved it to another partition, which the
server calls a failure to serialize. A merge begins again only while nothing of it can be committed: what takes it back
has not been given away, and so no other database's merge has gone ahead of this one's commit.
"""

from __future__ import annotations

import psycopg

from wye.errors import Unavailable
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.write import Overtaken
from wye.merge.refused import Refused

_QUICKER = (Overtaken, psycopg.errors.SerializationFailure)
IN_THE_WAY = (*_QUICKER, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
_TIMES = 3


class GivingWay:
    """Of one merge. `lock`: rows are to be locked as they are read. `exchanging`: tables whose rows exchange unique
    values, so that they are to be locked before that."""

    def __init__(self) -> None:
        self.lock = False
        self.exchanging: set[str] = set()
        self._left = _TIMES

    def begins_again(self, error: Exception) -> bool:
        """Whoever waited in vain for a lock need not wait again at once."""
        if self._left == 0 or not isinstance(error, (*_QUICKER, psycopg.errors.DeadlockDetected)):
            return False
        self._left -= 1
        self.lock = self.lock or isinstance(error, _QUICKER)
        return True


def told(error: Exception, place: str, *, is_kept: bool) -> Refused | Unavailable:
    """`is_kept`: what takes the merge back was given away, and nobody may take it for one that changed nothing."""
    text = str(error).strip()
    if is_kept:
        return Unavailable(f"{place}: at the commit: {text}")
    if isinstance(error, _QUICKER):
        detail = f"others keep writing the same rows, {1 + _TIMES} times in a row: {text.splitlines()[0]}; merge again"
        return Refused([refusal("lock-timeout", place, detail)])
    if isinstance(error, IN_THE_WAY):
        return Refused([refusal("lock-timeout", place, f"{text.splitlines()[0]}; merge again")])
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Unavailable(f"{place}: {text}")
    return Refused([refusal("not-applicable", place, text)])
