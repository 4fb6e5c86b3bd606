"""A merge carried out in the live target: the last step, and the only one that touches it.

What is done can be undone until the entry is committed: a database's transaction by the reverse merge, so that writes
made since stay; files by their journal; services by starting them as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from wye.engine import apply, checking, comparing, plan, records, seed, servers
from wye.engine.comparing import Side
from wye.engine.context import Engine
from wye.engine.outcome import Outcome
from wye.engine.proposing import Proposal
from wye.errors import CheckFailed, WyeError
from wye.interfaces import Bytes, Endpoint, FileApplication, Progress, Report, Terms
from wye.merge.refused import Refused
from wye.model import Environment

_HEALTHY_S = 60.0


class Unwound(CheckFailed):
    """The merge was applied, something did not hold, and all of it was undone."""

    code = "merge_unwound"


@dataclass(slots=True)
class _Landing:
    """What has been done so far, for undoing it."""

    engine: Engine
    doing: records.Change
    before: records.Head
    """The target as it was: its revision has the bytes."""
    proposal: Proposal
    terms: Terms
    stopped: list[str] = field(default_factory=list)
    stores: list[comparing.StoreChanges] = field(default_factory=list)
    files: FileApplication | None = None


def land(
    engine: Engine,
    doing: records.Change,
    head: records.Head,
    proposal: Proposal,
    resolutions: dict[str, Any],
    outcome: Outcome,
    *,
    message: str,
    report: Report,
) -> None:
    """Applies `proposal` to the live environment of `head` and appends the entry. Fills in the outcome.

    A conflict that came up since the rehearsal is noted in the outcome and leaves the target as it was. Raises Unwound
    if a service does not come back, and any other error after undoing what was done.
    """
    verb = str(doing.intent.verb)
    with outcome.steps("keep the target as it is"):
        before = records.keep_as_revision(engine, doing, head, message=f"before {verb}")
    given = {identity: value for identity, value in resolutions.items() if identity != "default"}
    terms = comparing.terms(proposal.ours.spec, given)
    terms.settings["sql_checks"] = checking.sql_checks(proposal.spec)
    landing = _Landing(engine, doing, before, proposal, terms)
    try:
        outcome.restarted = tuple(proposal.restarts())
        with outcome.steps("stop what changes"):
            _stop(landing, outcome, report)
        with outcome.steps("apply"):
            _apply(landing, outcome, report)
        environment = _changed(landing)
        with outcome.steps("start what changed"):
            _start(landing, environment, outcome, report)
    except Refused as error:
        _undo(landing, report)
        outcome.conflicts, outcome.applied, outcome.restarted = tuple(error.conflicts), {}, ()
        return
    except WyeError:
        _undo(landing, report)
        raise
    with outcome.steps("record"):
        _record(landing, environment, outcome, message)


def _stop(landing: _Landing, outcome: Outcome, report: Report) -> None:
    """Services that change, and those that the merge removes."""
    engine, environment, ours = landing.engine, landing.before.environment, landing.proposal.ours
    if not environment.awake:
        return
    gone = [name for name in ours.spec.services if name not in landing.proposal.spec.services]
    landing.stopped = [name for name in (*outcome.restarted, *gone) if name in ours.spec.services]
    if landing.stopped:
        verb = str(landing.doing.intent.verb)
        apply.bring_down(engine, environment, ours.spec, verb=verb, services=landing.stopped, report=report)


def _apply(landing: _Landing, outcome: Outcome, report: Report) -> None:
    engine, proposal, environment = landing.engine, landing.proposal, landing.before.environment
    verb = landing.doing.intent.verb
    for each in proposal.stores:
        if not each.changes:
            continue
        report(Progress(step="apply", subject=each.store.place))
        engine.host.at(f"{verb}:apply-store")
        with _server(landing, each) as target:
            done = each.store.kind.apply(target, each.changes, landing.terms)
        landing.stores.append(each)
        outcome.applied[each.store.place] = done.items
        for step, seconds in done.seconds.items():
            outcome.steps.taken[f"{each.store.place}: {step}"] = seconds
    if proposal.files.places():
        report(Progress(step="apply", subject="files"))
        engine.host.at(f"{verb}:apply-files")
        live = Bytes(
            root=engine.volumes.environment_path(environment.id),
            images=comparing.image_paths(engine, proposal.ours.spec, proposal.ours.images),
        )
        landing.files = engine.files.apply(proposal.files, comparing.bytes_of(engine, proposal.theirs), live)
        written_meanwhile = landing.files.check()
        if written_meanwhile:
            raise Refused(written_meanwhile)
        outcome.applied.update(proposal.files.places())


def _server(landing: _Landing, each: comparing.StoreChanges) -> AbstractContextManager[Endpoint]:
    return servers.serving(landing.engine, landing.before.environment, landing.proposal.ours.spec, each.store)


def _changed(landing: _Landing) -> Environment:
    """The target with the merged spec; its doors are held."""
    engine, proposal, environment = landing.engine, landing.proposal, landing.before.environment
    if proposal.spec == proposal.ours.spec and proposal.images == proposal.ours.images:
        return environment
    doors = plan.wanted_doors(proposal.spec, held=environment.ports, fork=environment.is_fork)
    return replace(
        environment,
        spec=engine.ledger.put_spec(proposal.spec),
        images=proposal.images,
        addresses=plan.assign_addresses(proposal.spec, environment.addresses, engine.settings.subnet),
        ports=engine.doors.hold(environment.name, doors),
        stopped=tuple(name for name in environment.stopped if name in proposal.spec.services),
    )


def _start(landing: _Landing, environment: Environment, outcome: Outcome, report: Report) -> None:
    engine, spec = landing.engine, landing.proposal.spec
    verb = str(landing.doing.intent.verb)
    seed.make_volumes(engine, environment.id, spec, environment.images, report=report)
    if not environment.awake or not (outcome.restarted or environment != landing.before.environment):
        return
    names = [name for name in outcome.restarted if name not in environment.stopped]
    apply.bring_up(engine, environment, spec, verb=verb, services=names, fresh=False, report=report)
    try:
        apply.await_ready(engine, environment, spec, names, _HEALTHY_S)
    except WyeError as error:
        raise Unwound(
            f"undone, because {error.message}", hint="see the fork's own logs, mend it there, merge again"
        ) from error


def _record(landing: _Landing, environment: Environment, outcome: Outcome, message: str) -> None:
    engine, proposal, doing = landing.engine, landing.proposal, landing.doing
    snapshot = records.take_snapshot(engine, environment, verb=doing.intent.verb)
    theirs = records.new_revision(
        engine,
        proposal.theirs.environment,
        proposal.theirs.snapshot,
        parents=(proposal.theirs.revision,),
    )
    after = records.new_revision(engine, environment, snapshot, parents=(landing.before.environment.revision, theirs))
    evidence = engine.ledger.put_value(outcome.evidence(_told(proposal)))
    doing.intent.arguments["evidence"] = evidence
    entry = doing.commit(replace(environment, revision=after), message=message, previous=landing.before.id)
    if landing.files is not None:
        landing.files.commit()
    outcome.merged, outcome.entry = True, entry.id


def _told(proposal: Proposal) -> dict[str, Any]:
    """What was merged, short enough to keep."""
    return {
        "databases": {each.store.place: each.changes.stat() for each in proposal.stores if each.changes},
        "files": proposal.files.places(),
    }


def _undo(landing: _Landing, report: Report) -> None:
    """Everything as it was, but for what others wrote meanwhile. What cannot be undone is said, with the way back."""
    engine, environment, ours = landing.engine, landing.before.environment, landing.proposal.ours
    verb = str(landing.doing.intent.verb)
    report(Progress(step="undo", subject=environment.name))
    changed = [name for name in landing.stopped if name in landing.proposal.spec.services]
    if changed:
        new = landing.proposal.spec
        _quietly(landing, lambda: apply.bring_down(engine, environment, new, verb=verb, services=changed, kill=True))
    if landing.files is not None:
        landing.files.undo()
    if landing.stores:
        _undo_stores(landing)
    engine.doors.hold(environment.name, plan.wanted_doors(ours.spec, held=environment.ports, fork=environment.is_fork))
    if environment.awake:
        _quietly(landing, lambda: apply.bring_up(engine, environment, ours.spec, verb=verb, fresh=False))


def _undo_stores(landing: _Landing) -> None:
    """The reverse merge: from the target as it is now back to what it was, row by row, so that later writes stay."""
    engine, environment = landing.engine, landing.before.environment
    ours = landing.proposal.ours
    kept = comparing.at_revision(engine, environment, environment.revision)
    with ExitStack() as held, comparing.frozen(engine, environment) as after:
        base = Side(after.label, environment, after.revision, after.snapshot, ours.spec, ours.images)
        changed = [each.store for each in landing.stores]
        for each, back in zip(
            landing.stores, comparing.read_stores(engine, held, base, kept, changed, live=False), strict=True
        ):
            if back.changes is None:
                raise Refused(back.refused)
            with _server(landing, each) as target:
                each.store.kind.apply(target, back.changes, comparing.terms(ours.spec))


def _quietly(landing: _Landing, act: Callable[[], None]) -> None:
    """While undoing, one service's trouble must not keep the rest from being undone."""
    try:
        act()
    except WyeError as error:
        records.emit(landing.engine, "undo-trouble", landing.before.environment.name, error=error.message)
