"""merge: what a fork changed goes into the live target, wholly or not at all; rehearsed first on a copy of it.

In order: read the fork's changes; merge spec and files three ways in pure code; rehearse the databases, and the checks,
on a throwaway fork of the target as it is now; then the target: a revision of it is kept, each database takes its
changes in one transaction that looks at every touched row again, services that must restart are stopped, files are
swapped, services start and must become healthy. Whatever goes wrong before that undoes all of it. Writers go on
meanwhile, and nothing that the merge did not see is overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from wye.engine import ancestry, comparing, landing, proposing, records, rehearsing
from wye.engine.comparing import Side
from wye.engine.context import Engine, environment_name
from wye.engine.outcome import Outcome
from wye.engine.timing import Steps
from wye.engine.views import MergeResult
from wye.errors import BadRequest, Conflict
from wye.interfaces import Progress, Report
from wye.model import EnvironmentName, RevisionId, Verb


def merge(
    engine: Engine,
    name: str,
    *,
    into: str | None = None,
    resolutions: Mapping[str, Any] | None = None,
    rehearse_only: bool = False,
    checks: tuple[str, ...] = (),
    message: str = "",
    actor: str,
    report: Report,
) -> MergeResult:
    """Merges environment `name` into `into` (None: what it was forked from). Conflicts and failed checks are results,
    not errors: `merged` is False then and the target is as it was. Raises NotFound, BadRequest, Unsupported."""
    source = environment_name(name)
    target = _target(engine, source, into)
    first, second = sorted((source, target))
    outcome = Outcome(source, target, Steps(engine.host))
    with engine.changing(first), engine.changing(second), ExitStack() as held:
        other = records.require(engine, source)
        fork = other.environment
        head = records.require(engine, target)
        kept: list[RevisionId] = []
        base = ancestry.base_between(engine, fork, head)
        theirs_now = comparing.frozen(engine, fork, keep=lambda: bool(kept))
        with theirs_now as theirs, comparing.frozen(engine, head.environment) as ours:
            report(Progress(step="read", subject=f"what {source} changed"))
            with outcome.steps("read changes"):
                proposal = proposing.propose(engine, held, base, ours, theirs, resolutions or {})
                proposal, given = proposing.settled(engine, proposal, resolutions or {})
            rehearsing.rehearse(engine, proposal, given, checks, outcome, report)
            if not outcome.is_clean or rehearse_only:
                return outcome.result()
            if not outcome.brings_something:
                return outcome.result()
            told = {"source": source, "source_id": fork.id, "restarts": ",".join(proposal.restarts())}
            with records.change(engine, Verb.MERGE, target, actor=actor, previous=head.id, **told) as doing:
                kept.append(_keep(engine, doing, other, proposal.theirs))
                proposal = replace(proposal, theirs=replace(proposal.theirs, revision=kept[0]))
                landing.land(engine, doing, head, proposal, given, outcome, message=message, report=report)
    return outcome.result()


def conflicts(
    engine: Engine, name: str, *, into: str | None = None, resolutions: Mapping[str, Any] | None = None,
    actor: str = "", report: Report,
) -> MergeResult:  # fmt: skip
    """A rehearsal that lists what is in conflict. The target is not touched."""
    return merge(engine, name, into=into, resolutions=resolutions, rehearse_only=True, actor=actor, report=report)


def _keep(engine: Engine, doing: records.Change, fork: records.Head, theirs: Side) -> RevisionId:
    """What is merged, as a revision in the fork's own history: as long as the fork is there it is the base of the next
    merge."""
    revision = records.new_revision(engine, fork.environment, theirs.snapshot)
    merged = replace(fork.environment, revision=revision)
    message = f"as it is merged into {doing.intent.environment}"
    doing.commit(merged, verb=Verb.SNAPSHOT, message=message, previous=fork.id)
    return revision


def _target(engine: Engine, source: EnvironmentName, into: str | None) -> EnvironmentName:
    fork = records.require(engine, source).environment
    if into is None:
        if fork.source is None:
            raise BadRequest(f"{source!r} is no fork", hint="say into what: --into ENVIRONMENT")
        return fork.source
    target = environment_name(into)
    if target == source:
        raise BadRequest(f"{source!r} cannot be merged into itself")
    other = records.require(engine, target).environment
    if other.project != fork.project:
        raise Conflict(f"{source!r} is of project {fork.project!r}, {target!r} of {other.project!r}")
    return target
