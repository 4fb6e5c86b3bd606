"""Merges and reverts that a crash cut short: undone, or finished if their entry was committed. Never in silence.

The entry decides. Without it everything that the merge did is taken back, as if a service had not become healthy: the
services that it had started, files by their journal, databases by what was kept before each of their commits
(`undoing`), volumes that it made. That happens before anything is started, so nobody sees the half of it. What came of
it is an entry of the target's ledger, an event, and a line in the daemon's log.
"""

from __future__ import annotations

from wye.engine import apply, plan, records, undoing
from wye.engine.context import Engine
from wye.errors import WyeError
from wye.model import SHELL, Entry, Intent, Spec, Verb


def recover(engine: Engine) -> list[str]:
    """For every environment; a line for each that anything was done for. Errors are told, not raised."""
    cut_short = {
        intent.environment: intent for intent in engine.ledger.intents() if intent.verb in (Verb.MERGE, Verb.REVERT)
    }
    told: list[str] = []
    lent = engine.volumes.lent()
    for name in sorted(engine.ledger.environments()):
        intent = cut_short.get(name)
        try:
            head = records.require(engine, name)
            if head.environment.id in lent:
                continue  # nothing has been written there, and a snapshot's own remains are not its
            if intent is None:
                told += _tidy(engine, head)
            else:
                told += _settle(engine, intent)
        except WyeError as error:
            told.append(f"{name}: {error.message}")
    return told


def _tidy(engine: Engine, head: records.Head) -> list[str]:
    """What a merge has left that got an error from the file system, either when it was undone or after its entry."""
    stands = head.entry.verb in (Verb.MERGE, Verb.REVERT)
    found = engine.files.recover(engine.volumes.environment_path(head.environment.id), finish=stands)
    return [f"{head.environment.name}: {'finished' if stands else 'undid'} a merge of files"] if found else []


def _settle(engine: Engine, intent: Intent) -> list[str]:
    head = records.require(engine, intent.environment)
    entries = [entry for _, entry in engine.ledger.walk(head.id, limit=8) if entry.intent == intent.id]
    root = engine.volumes.environment_path(head.environment.id)
    if any(entry.verb is intent.verb for entry in entries):
        engine.files.recover(root, finish=True)
        return []
    if not entries:
        return []  # it had only begun to look
    trouble = _undo(engine, intent, head, entries[-1])
    subject = intent.arguments.get("source") or intent.arguments.get("reverts", "")[:12]
    outcome = "taken back" if trouble is None else f"could not be taken back wholly: {trouble.message}"
    doing = records.Change(engine, intent, head.id)
    records.keep_as_revision(engine, doing, head, message=f"{intent.verb} of {subject} was cut short and {outcome}")
    undoing.forget(engine, head.environment.id)
    records.emit(engine, f"{intent.verb}-undone", intent.environment, subject=subject, outcome=outcome)
    return [f"{intent.environment}: the {intent.verb} of {subject} was cut short and {outcome}"]


def _undo(engine: Engine, intent: Intent, head: records.Head, before: Entry) -> WyeError | None:
    """Returns what stood in the way of databases."""
    environment = head.environment
    spec = records.spec_of(engine, environment)
    _stop(engine, intent, head, spec)
    engine.files.recover(engine.volumes.environment_path(environment.id))
    undoing.remove_new_volumes(engine, environment.id, engine.ledger.get_revision(before.environment.revision).snapshot)
    try:
        undoing.take_back(engine, environment, spec, intent.id, verb="reconcile")
    except WyeError as error:
        return error
    return None


def _stop(engine: Engine, intent: Intent, head: records.Head, spec: Spec) -> None:
    """Services that the merge stopped and perhaps started as it wanted them, and those that it added."""
    environment = head.environment
    restarts = set(intent.arguments.get("restarts", "").split(","))
    declared = {name: plan.service_of(spec, name) for name in plan.replicas(spec)}
    for container in engine.runtime.containers():
        is_ours = container.environment == environment.id and container.name != SHELL
        if is_ours and (container.name not in declared or declared[container.name] in restarts):
            apply.stop_replica(engine, environment, None, container.name, verb="reconcile")
