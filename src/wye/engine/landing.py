"""A merge carried out in the live target: the last step, and the only one that touches it.

Databases first, each in its transaction, while every service goes on. Only then services that change are stopped, files
are swapped and services start, so that they are away for as short as can be; whoever connects to their published ports
meanwhile waits for them and is not refused (`handing_over`).

What is done can be undone until the entry is committed: a database's transaction by the reverse merge, so that writes
made since stay; files by their journal; services by starting them as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from wye.engine import apply, checking, comparing, handing_over, plan, records, seed, servers, undoing
from wye.engine.context import Engine
from wye.engine.outcome import Outcome
from wye.engine.owning import own
from wye.engine.proposing import Proposal
from wye.errors import CheckFailed, InvariantError, WyeError
from wye.interfaces import Applied, Bytes, Endpoint, FileApplication, Progress, Report
from wye.merge.refused import Refused
from wye.model import Environment, SnapshotId

logger = logging.getLogger(__name__)

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
    resolutions: dict[str, Any]
    disturbed: bool = False
    """Whether services have begun to stop."""
    awaited: list[handing_over.Awaited] = field(default_factory=list)
    files: FileApplication | None = None
    after: SnapshotId | None = None


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
        own(engine, head.environment)
        before = records.keep_as_revision(engine, doing, head, message=f"before {verb}")
    landing = _Landing(engine, doing, before, proposal, resolutions)
    with engine.halfway(head.environment.name):
        _land(landing, outcome, message, report)


def _land(landing: _Landing, outcome: Outcome, message: str, report: Report) -> None:
    engine, proposal = landing.engine, landing.proposal
    try:
        undoing.forget(engine, landing.before.environment.id)
        outcome.restarted = tuple(proposal.restarts())
        with outcome.steps("apply"):
            _apply_to_databases(landing, outcome, report)
        with outcome.steps("stop what changes"):
            _stop(landing, outcome, report)
        with outcome.steps("swap files"):
            _swap_files(landing, outcome, report)
            environment = _changed(landing, report)
        with outcome.steps("start what changed"):
            _start(landing, environment, outcome, report)
        with outcome.steps("record"):
            _record(landing, environment, outcome, message)
    except Refused as error:
        _undo(landing, outcome, report)
        conflicts, failed = checking.sql_failures(proposal.spec, error.conflicts)
        outcome.conflicts, outcome.applied, outcome.restarted = tuple(conflicts), {}, ()
        outcome.checks += tuple(failed)
        return
    except WyeError as error:
        if _is_recorded(landing):
            raise  # it stands
        stays = _undo(landing, outcome, report)
        if stays:
            raise Unwound(f"{error.message}; but {'; '.join(stays)}", hint=error.hint) from error
        raise
    except Exception:  # a bug: the target must not be left with its services down
        if not _is_recorded(landing):
            _undo(landing, outcome, report)
        raise


def _apply_to_databases(landing: _Landing, outcome: Outcome, report: Report) -> None:
    for each in landing.proposal.stores:
        if not each.changes:
            continue
        report(Progress(step="apply", subject=each.store.place))
        try:
            done = _apply_to(landing, each)
        except Refused as error:
            if landing.disturbed or any(conflict.kind != undoing.LOCK_TIMEOUT for conflict in error.conflicts):
                raise
            # What is going to stop may be what does not give up its lock.
            if not _stop(landing, outcome, report):
                raise
            done = _apply_to(landing, each)
        outcome.applied[each.store.place] = done.items
        for step, seconds in done.seconds.items():
            outcome.steps.taken[f"{each.store.place}: {step}"] = seconds


def _apply_to(landing: _Landing, each: comparing.StoreChanges) -> Applied:
    assert each.changes is not None
    engine, environment = landing.engine, landing.before.environment
    engine.host.at(f"{landing.doing.intent.verb}:apply-store")
    with _server(landing, each) as target:
        keep = undoing.keeper(engine, environment.id, landing.doing.intent.id, each.store.volume)
        terms = checking.terms(landing.proposal, each.store, landing.resolutions)
        return each.store.kind.apply(target, each.changes, terms, keep)


def _stop(landing: _Landing, outcome: Outcome, report: Report) -> bool:
    """Services that change, and those that the merge removes. Whether there was one to stop."""
    engine, environment, ours = landing.engine, landing.before.environment, landing.proposal.ours
    if landing.disturbed or not environment.awake:
        return False
    landing.disturbed = True
    gone = [name for name in ours.spec.services if name not in landing.proposal.spec.services]
    names = [name for name in (*outcome.restarted, *gone) if name in ours.spec.services]
    if names:
        verb = str(landing.doing.intent.verb)
        with handing_over.holding_back(engine, environment, ours.spec, names, verb=verb) as landing.awaited:
            apply.bring_down(engine, environment, ours.spec, verb=verb, services=names, report=report)
    return bool(names)


def _swap_files(landing: _Landing, outcome: Outcome, report: Report) -> None:
    engine, proposal, environment = landing.engine, landing.proposal, landing.before.environment
    if not proposal.files.places():
        return
    report(Progress(step="apply", subject="files"))
    undoing.keep_paths(engine, environment.id, landing.doing.intent.id, proposal.files.paths())
    engine.host.at(f"{landing.doing.intent.verb}:apply-files")
    live = Bytes(
        root=engine.volumes.environment_path(environment.id),
        images=comparing.image_paths(engine, proposal.ours.spec, proposal.ours.images),
    )
    landing.files = engine.files.apply(proposal.files, comparing.bytes_of(engine, proposal.theirs), live)
    written_meanwhile = landing.files.check()
    if written_meanwhile:
        raise Refused(written_meanwhile)
    landing.files.release()
    outcome.applied.update(proposal.files.places())


def _server(landing: _Landing, each: comparing.StoreChanges) -> AbstractContextManager[Endpoint]:
    return servers.serving(landing.engine, landing.before.environment, landing.proposal.ours.spec, each.store)


def _changed(landing: _Landing, report: Report) -> Environment:
    """The target with the merged spec; its doors are held. Its bytes are kept before any service goes on to write, so
    that they differ from those before the merge by little else than the merge."""
    engine, proposal, environment = landing.engine, landing.proposal, landing.before.environment
    if proposal.spec != proposal.ours.spec or proposal.images != proposal.ours.images:
        environment = _respecified(landing)
        seed.make_volumes(engine, environment.id, proposal.spec, environment.images, report=report)
    landing.after = records.take_snapshot(engine, environment, verb=landing.doing.intent.verb)
    return environment


def _respecified(landing: _Landing) -> Environment:
    engine, proposal, environment = landing.engine, landing.proposal, landing.before.environment
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
    if not environment.awake or not (outcome.restarted or environment != landing.before.environment):
        return
    names = [name for name in outcome.restarted if name not in environment.stopped]
    closed = handing_over.without(environment, spec, names)
    apply.bring_up(engine, closed, spec, verb=verb, services=names, fresh=False, report=report)
    try:
        apply.await_ready(engine, environment, spec, names, _HEALTHY_S)
    except WyeError as error:
        raise Unwound(
            f"undone, because {error.message}", hint="see the fork's own logs, mend it there, merge again"
        ) from error
    handing_over.let_in(engine, environment, spec, landing.awaited, verb=verb)


def _record(landing: _Landing, environment: Environment, outcome: Outcome, message: str) -> None:
    engine, proposal, doing = landing.engine, landing.proposal, landing.doing
    if landing.after is None:
        raise InvariantError("a merge is recorded before it was applied")
    parents = (landing.before.environment.revision, proposal.theirs.revision)
    after = records.new_revision(engine, environment, landing.after, parents=parents)
    evidence = engine.ledger.put_value(outcome.evidence(_told(proposal)))
    doing.intent.arguments["evidence"] = evidence
    entry = doing.commit(replace(environment, revision=after), message=message, previous=landing.before.id)
    outcome.merged, outcome.entry = True, entry.id
    if landing.files is not None:
        landing.files.commit()


def _is_recorded(landing: _Landing) -> bool:
    entry = records.require(landing.engine, landing.before.environment.name).entry
    return entry.intent == landing.doing.intent.id and entry.verb is landing.doing.intent.verb


def _told(proposal: Proposal) -> dict[str, Any]:
    """What was merged, short enough to keep."""
    return {
        "databases": {each.store.place: each.changes.stat() for each in proposal.stores if each.changes},
        "files": proposal.files.places(),
    }


def _undo(landing: _Landing, outcome: Outcome, report: Report) -> list[str]:
    """Everything as it was, but for what others wrote meanwhile: a line for each place where that stays. What cannot be
    undone is said, with the way back."""
    engine, environment, ours = landing.engine, landing.before.environment, landing.proposal.ours
    verb = str(landing.doing.intent.verb)
    report(Progress(step="undo", subject=environment.name))
    new, restarted = landing.proposal.spec, outcome.restarted
    if landing.disturbed:
        _quietly(landing, lambda: apply.bring_down(engine, environment, new, verb=verb, services=restarted, kill=True))
    trouble = _quietly(landing, lambda: _undo_files(landing))
    if landing.after is not None:
        engine.volumes.delete_snapshot(landing.after)
    before = engine.ledger.get_revision(environment.revision).snapshot
    undoing.remove_new_volumes(engine, environment.id, before)
    stays: list[str] = []

    def take_back() -> None:
        stays.extend(undoing.take_back(engine, environment, ours.spec, landing.doing.intent.id, verb=verb))

    trouble = _quietly(landing, take_back) or trouble
    engine.doors.hold(environment.name, plan.wanted_doors(ours.spec, held=environment.ports, fork=environment.is_fork))
    if environment.awake:
        _quietly(landing, lambda: _start_again(landing))
    if trouble is not None:
        message = f"a {verb} that failed could not be taken back wholly: {_said(trouble)}"
        records.keep_as_revision(engine, landing.doing, landing.before, message=message)
        hint = f"'wye restore {environment.name} {environment.revision[:12]}' goes back to before it"
        raise Unwound(message, hint=hint) from trouble
    return stays


def _start_again(landing: _Landing) -> None:
    engine, environment, spec = landing.engine, landing.before.environment, landing.proposal.ours.spec
    verb = str(landing.doing.intent.verb)
    closed = handing_over.without(environment, spec, {each.service for each in landing.awaited})
    try:
        apply.bring_up(engine, closed, spec, verb=verb, fresh=False)
    finally:
        handing_over.let_in(engine, environment, spec, landing.awaited, verb=verb)


def _undo_files(landing: _Landing) -> None:
    """Raises what stands in the way: a database whose application does not let go of it."""
    for each in landing.files.undo() if landing.files is not None else []:
        records.emit(landing.engine, "undo-trouble", landing.before.environment.name, error=f"left as it is: {each}")


def _quietly(landing: _Landing, act: Callable[[], None]) -> Exception | None:
    """While undoing, nothing must keep the rest from being undone, not one service's trouble nor a bug. It is told, and
    returned."""
    try:
        act()
    except Exception as error:
        if not isinstance(error, WyeError):
            logger.exception("undoing a merge of %s", landing.before.environment.name)
        records.emit(landing.engine, "undo-trouble", landing.before.environment.name, error=_said(error))
        return error
    return None


def _said(error: Exception) -> str:
    return error.message if isinstance(error, WyeError) else f"{type(error).__name__}: {error}"
