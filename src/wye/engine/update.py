"""update: a fork as if it had been made just now. What its source did since is in it, and so is what it did itself.

A new fork of the source is made aside, the fork's changes are merged into it, and the two are exchanged under the
fork's name in one compare-and-swap. What the fork was until then stays a revision of it. A conflict changes nothing.

A fork that runs is tried first as it is, since most conflicts are found then; for the exchange its services stop, and
what counts is what it has when they have: nothing that was written meanwhile is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from wye.engine import ancestry, apply, comparing, materialising, plan, preparing, proposing, records, rehearsing
from wye.engine.comparing import Side
from wye.engine.context import Engine, environment_name, new_environment_id
from wye.engine.outcome import Outcome
from wye.engine.timing import Steps
from wye.engine.views import MergeResult
from wye.errors import BadRequest, WyeError
from wye.interfaces import Progress, Report
from wye.model import Environment, RevisionId, Spec, Verb


def update(
    engine: Engine, name: str, *, resolutions: Mapping[str, Any] | None = None, actor: str, report: Report
) -> MergeResult:
    """Raises NotFound, BadRequest for what is no fork."""
    named = environment_name(name)
    fork = records.require(engine, named).environment
    if fork.source is None:
        raise BadRequest(f"{name!r} is no fork: there is nothing to update it from")
    source = fork.source
    outcome = Outcome(source, named, Steps(engine.host))
    first, second = sorted((named, source))
    with engine.changing(first), engine.changing(second):
        head = records.require(engine, named)
        above = records.require(engine, source)
        with records.change(engine, Verb.UPDATE, named, actor=actor, previous=head.id, source=source) as doing:
            snapshot = records.take_snapshot(engine, above.environment, verb=Verb.UPDATE)
            origin = records.new_revision(engine, above.environment, snapshot)
            ours = comparing.at_revision(engine, above.environment, origin)
            base = ancestry.base_between(engine, head.environment, above)
            updating = _Updating(engine, doing, head, base, ours, dict(resolutions or {}), outcome, report)
            if not head.environment.awake:
                _exchange(updating, checks=())
            elif _tried(updating):
                with _at_rest(updating):
                    _exchange(updating, checks=None)
    return outcome.result()


@dataclass(frozen=True, slots=True)
class _Updating:
    """`head`: of the fork. `base` and `ours`: as a merge of the fork into its source has them."""

    engine: Engine
    doing: records.Change
    head: records.Head
    base: Side
    ours: Side
    resolutions: dict[str, Any]
    outcome: Outcome
    report: Report


def _tried(updating: _Updating) -> bool:
    """Whether what the fork has now can be brought over."""
    with ExitStack() as held:
        _propose(updating, held, checks=())
    return updating.outcome.is_clean


def _propose(
    updating: _Updating, held: ExitStack, *, checks: tuple[str, ...] | None
) -> tuple[proposing.Proposal, dict[str, Any]]:
    """The merge of what the fork has now, rehearsed (`checks` as there), and the resolutions that it has then."""
    engine, outcome, given = updating.engine, updating.outcome, updating.resolutions
    fork = updating.head.environment
    theirs = held.enter_context(comparing.frozen(engine, fork))
    with outcome.steps("read changes"):
        updating.report(Progress(step="read", subject=f"what {fork.name} changed"))
        proposal = proposing.propose(engine, held, updating.base, updating.ours, theirs, given)
        proposal, given = proposing.settled(engine, proposal, given)
    rehearsing.rehearse(engine, proposal, given, checks, outcome, updating.report)
    return proposal, given


@contextmanager
def _at_rest(updating: _Updating) -> Iterator[None]:
    """The fork's services do not run. They do again if it comes to nothing."""
    engine, old = updating.engine, updating.head.environment
    spec = records.spec_of(engine, old)
    try:
        with updating.outcome.steps("stop the fork"):
            apply.bring_down(engine, old, spec, verb="update", report=updating.report)
            engine.network.detach(old.id)
        yield
    finally:
        if not updating.outcome.merged:
            apply.bring_up(engine, old, spec, verb="update", fresh=True)


def _make(
    engine: Engine, fork: Environment, origin: RevisionId, proposal: proposing.Proposal, given: dict[str, Any]
) -> Environment:
    """The new bytes, merged, with nothing running."""
    made = replace(
        fork,
        id=new_environment_id(),
        origin=origin,
        base=None,
        ports={},
        spec=engine.ledger.put_spec(proposal.ours.spec),
        images=proposal.ours.images,
        addresses=plan.assign_addresses(proposal.ours.spec, fork.addresses, engine.settings.subnet),
    )
    engine.host.at("update:volumes")
    engine.volumes.fork(proposal.ours.snapshot, made.id, limit_bytes=fork.disk_bytes)
    try:
        merged = materialising.materialise(engine, made, proposal, given, verb="update", prepare=True)
        apply.bring_down(engine, merged, proposal.spec, verb="update")
        engine.network.detach(made.id)
    except WyeError:
        _remove(engine, made)
        raise
    return merged


def _exchange(updating: _Updating, *, checks: tuple[str, ...] | None) -> None:
    """What the fork has, which nobody writes to now, merged into a new one; then its name moves to the new bytes."""
    engine, outcome = updating.engine, updating.outcome
    with ExitStack() as held:
        proposal, given = _propose(updating, held, checks=checks)
        if not outcome.is_clean:
            return
        with outcome.steps("make the new fork"):
            origin = updating.ours.revision
            made = _make(engine, updating.head.environment, origin, proposal, given)
    with outcome.steps("exchange"):
        _move(updating, made)


def _move(updating: _Updating, made: Environment) -> None:
    engine, doing, head = updating.engine, updating.doing, updating.head
    old, spec = head.environment, records.spec_of(engine, made)
    try:
        kept = records.keep_as_revision(engine, doing, head, message="before update")
        ports = engine.doors.hold(old.name, plan.wanted_doors(spec, held=old.ports, fork=True))
        revision = made.base or made.origin or kept.environment.revision
        changed = replace(kept.environment, **_moved(made), ports=ports, revision=revision)
        entry = doing.commit(changed, previous=kept.id)
    except WyeError:
        _remove(engine, made)
        raise
    updating.outcome.merged, updating.outcome.entry = True, entry.id
    engine.volumes.delete_environment(old.id)
    engine.runtime.delete_logs(old.id)
    if old.awake:
        _start(engine, entry.environment, spec, updating.report)


def _start(engine: Engine, environment: Environment, spec: Spec, report: Report) -> None:
    """Its name leads to the new bytes already: a service that does not come up leaves the fork there to look at."""
    try:
        apply.bring_up(engine, environment, spec, verb="update", fresh=True, report=report)
        preparing.await_databases(engine, environment, spec)
    except apply.ServiceFailed as error:
        error.hint = f"the fork is updated: see 'wye logs {environment.name}', or restore what it was"
        raise


def _moved(made: Environment) -> dict[str, Any]:
    """What the new fork brings."""
    names = ("id", "spec", "images", "addresses", "origin", "base")
    return {name: getattr(made, name) for name in names}


def _remove(engine: Engine, environment: Environment) -> None:
    for container in engine.runtime.containers():
        if container.environment == environment.id:
            engine.supervisor.forget(container.id)
            engine.runtime.delete(container.id)
    engine.network.detach(environment.id)
    engine.runtime.delete_logs(environment.id)
    engine.volumes.delete_environment(environment.id)
