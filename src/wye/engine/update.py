"""update: a fork as if it had been made just now. What its source did since is in it, and so is what it did itself.

A new fork of the source is made aside, the fork's changes are merged into it, and the two are exchanged under the
fork's name in one compare-and-swap. What the fork was until then stays a revision of it. A conflict changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from wye.engine import ancestry, apply, comparing, materialising, plan, preparing, proposing, records, rehearsing
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
    with engine.changing(first), engine.changing(second), ExitStack() as held:
        head = records.require(engine, named)
        above = records.require(engine, source)
        upstream = above.environment
        fork = head.environment
        base = ancestry.base_between(engine, fork, above)
        with records.change(engine, Verb.UPDATE, named, actor=actor, previous=head.id, source=source) as doing:
            snapshot = records.take_snapshot(engine, upstream, verb=Verb.UPDATE)
            origin = records.new_revision(engine, upstream, snapshot)
            ours = comparing.at_revision(engine, upstream, origin)
            with comparing.frozen(engine, fork) as theirs:
                with outcome.steps("read changes"):
                    report(Progress(step="read", subject=f"what {named} changed"))
                    proposal = proposing.propose(engine, held, base, ours, theirs, resolutions or {}, live=True)
                    proposal, given = proposing.settled(engine, proposal, resolutions or {})
                rehearsing.rehearse(engine, proposal, given, (), outcome, report)
                if outcome.is_clean:
                    with outcome.steps("make the new fork"):
                        made = _make(engine, fork, origin, proposal, given)
                    with outcome.steps("exchange"):
                        _exchange(engine, doing, head, made, outcome, report)
    return outcome.result()


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


def _exchange(
    engine: Engine, doing: records.Change, head: records.Head, made: Environment, outcome: Outcome, report: Report
) -> None:
    """The fork's name moves to the new bytes. After an error it runs as it was."""
    old = head.environment
    before = records.spec_of(engine, old)
    spec = records.spec_of(engine, made)
    try:
        if old.awake:
            apply.bring_down(engine, old, before, verb="update", report=report)
        engine.network.detach(old.id)
        kept = records.keep_as_revision(engine, doing, head, message="before update")
        ports = engine.doors.hold(old.name, plan.wanted_doors(spec, held=old.ports, fork=True))
        revision = made.base or made.origin or kept.environment.revision
        changed = replace(kept.environment, **_moved(made), ports=ports, revision=revision)
        entry = doing.commit(changed, previous=kept.id)
    except WyeError:
        _remove(engine, made)
        if old.awake:
            apply.bring_up(engine, old, before, verb="update", fresh=True)
        raise
    engine.volumes.delete_environment(old.id)
    engine.runtime.delete_logs(old.id)
    if old.awake:
        _start(engine, entry.environment, spec, report)
    outcome.merged, outcome.entry = True, entry.id


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
