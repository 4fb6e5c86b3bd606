"""Where two environments last had the same: the base of a merge.

As in git, a merge makes what was merged an ancestor of the target, so merging the same fork again starts from there:
what came over once is not asked about, or written, a second time. Unlike in git, a merge that was reverted no longer
counts, so merging again brings its changes back; after a restore those count that the restored revision comes after.
"""

from __future__ import annotations

from wye.engine import comparing, records
from wye.engine.comparing import Side
from wye.engine.context import Engine
from wye.errors import Unavailable
from wye.model import EntryId, Environment, Verb


def base_between(engine: Engine, fork: Environment, target: records.Head) -> Side:
    """What `fork`'s changes are counted from when they go into `target`: what was merged last, or its own base."""
    found = _merged_last(engine, fork, target)
    if found is not None:
        try:
            return comparing.at_revision(engine, fork, found)
        except Unavailable:
            if comparing.terms(records.spec_of(engine, target.environment)).settings.get("delta"):
                raise  # what is added up must not be added twice
            # Its bytes are gone: the fork's own base is as good, only slower.
    return comparing.base_of(engine, fork)


def _merged_last(engine: Engine, fork: Environment, target: records.Head) -> str | None:
    """The fork's revision at the last merge that is still in effect."""
    reverted: set[EntryId] = set()
    restored: str | None = None
    for entry_id, entry in engine.ledger.walk(target.id):
        if entry.at < fork.created_at:
            return None
        if restored is not None and entry.environment.revision != restored:
            continue  # what a restore has left behind
        restored = None
        if entry_id in reverted or entry.environment.name != target.environment.name:
            continue
        if entry.verb is Verb.RESTORE:
            restored = entry.arguments["revision"]
        elif entry.verb is Verb.REVERT:
            reverted.add(EntryId(entry.arguments["reverts"]))
        elif entry.verb is Verb.MERGE and entry.arguments.get("source_id") == fork.id:
            return str(engine.ledger.get_revision(entry.environment.revision).parents[1])
    return None
