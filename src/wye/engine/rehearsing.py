"""The rehearsal: a merge into throwaway copies of the target as it is now, before the target is touched.

Databases are tried on throwaway servers over the target's snapshot, which finds every conflict that only a database can
find: unique keys, foreign keys, a schema that moved. Checks need the whole environment: then a full fork of the target
is made, hidden from everybody, merged into, run, and asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wye.engine import checking, comparing, proposing, servers
from wye.engine.context import Engine
from wye.engine.outcome import Outcome
from wye.engine.proposing import Proposal
from wye.interfaces import Progress, Report
from wye.merge.conflict import Conflict, check_resolutions, resolutions_from_json
from wye.merge.refused import Refused


def rehearse(
    engine: Engine,
    proposal: Proposal,
    resolutions: dict[str, Any],
    checks: tuple[str, ...] | None,
    outcome: Outcome,
    report: Report,
) -> None:
    """Fills in the outcome's conflicts and checks. `resolutions` is completed by its default, for databases too.
    `checks` None: it was rehearsed a moment ago, and only what fails now is added."""
    found = list(proposal.conflicts)
    settled = set(proposal.settled)
    with outcome.steps("rehearse"):
        for each in proposal.stores:
            if each.changes is None or not each.changes:
                continue
            report(Progress(step="rehearse", subject=each.store.place))
            refused, items, decided = _try(engine, proposal, each, resolutions)
            settled |= decided
            conflicts, failed = checking.sql_failures(proposal.spec, refused)
            found += conflicts
            if not refused and checks is not None:
                outcome.checks += tuple(checking.sql_passed(proposal.spec, str(each.store.service.name)))
            outcome.checks += tuple(failed)
            outcome.brings_something |= items > 0
    outcome.conflicts = tuple({each.id: each for each in found}.values())
    check_resolutions(resolutions_from_json(comparing.by_conflict(resolutions)), settled, outcome.conflicts)
    outcome.rehearsed = True
    outcome.notices = proposal.notices
    outcome.brings_something |= proposal.changes_files_or_spec
    wanted = () if checks is None else checking.checks_of(proposal.spec, checks)
    if wanted and not found:
        with outcome.steps("checks"):
            many = "1 check" if len(wanted) == 1 else f"{len(wanted)} checks"
            report(Progress(step="rehearse", subject=f"on a copy of {outcome.into}, with {many}"))
            outcome.checks += checking.run(engine, proposal, resolutions, wanted, report)


def _try(
    engine: Engine, proposal: Proposal, each: comparing.StoreChanges, resolutions: dict[str, Any]
) -> tuple[list[Conflict], int, frozenset[str]]:
    """Conflicts of one database, on a copy of ours, how much would be written, and resolutions that took effect. Again
    for as long as a default settles some: what hangs on them comes up then."""
    assert each.changes is not None
    ours = proposal.ours
    with servers.throwaway(engine, ours.environment, ours.spec, ours.images, ours.snapshot, each.store) as copy:
        while True:
            conflicts, items, settled = _attempt(each, copy, resolutions, proposal)
            completed = proposing.with_default(conflicts, resolutions)
            if not conflicts or completed == resolutions:
                return conflicts, items, settled
            resolutions.update(completed)


def _attempt(
    each: comparing.StoreChanges, copy: servers.Throwaway, resolutions: Mapping[str, Any], proposal: Proposal
) -> tuple[list[Conflict], int, frozenset[str]]:
    terms = checking.terms(proposal, each.store, resolutions, dry_run=True)
    try:
        assert each.changes is not None
        done = each.store.kind.apply(copy.endpoint, each.changes, terms)
    except Refused as error:
        return list(error.conflicts), 0, frozenset()
    return [], done.items, done.settled
