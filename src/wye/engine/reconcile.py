"""reconcile: what is there becomes what is recorded. Run at every start, so that starting and recovering are one.

Whatever belongs to no recorded environment is removed: containers, namespaces, rules, bytes. Whatever should run
and does not is started. An intent that is left says that a verb was cut short: before its commit its effects are
such leftovers; after it, they are completed here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from wye.engine import apply, plan, records, recovering
from wye.engine.context import Engine
from wye.errors import WyeError
from wye.model import SHELL, Environment, EnvironmentId, Intent, Spec, Verb

_STARTERS = 2


def reconcile(engine: Engine) -> list[str]:
    """Returns what it found and did, a line each. Errors of single environments are told, not raised."""
    told: list[str] = []
    engine.volumes.open()
    engine.network.open()
    told += [f"{name} is gone: its rename or discard was finished" for name in engine.ledger.settle()]
    environments = [entry.environment for entry in engine.ledger.environments().values()]
    known = {environment.id for environment in environments}
    told += remove_strangers(engine, known)
    told += recovering.recover(engine)
    environments = [entry.environment for entry in engine.ledger.environments().values()]
    interrupted = {intent.environment for intent in engine.ledger.intents()}
    awake: list[tuple[Environment, Spec, bool]] = []
    for environment in sorted(environments, key=lambda each: (each.is_fork, each.name)):
        spec = records.spec_of(engine, environment)
        told += _hold_doors(engine, environment, spec)
        if environment.awake:
            awake.append((environment, spec, environment.name in interrupted))
        else:
            told += _put_down(engine, environment, spec)
    with ThreadPoolExecutor(_STARTERS, thread_name_prefix="reconcile") as pool:
        for lines in pool.map(lambda pair: _bring_up(engine, *pair), awake):
            told += lines
    told += _close_intents(engine)
    return told


def remove_strangers(engine: Engine, known: set[EnvironmentId]) -> list[str]:
    """Removes what belongs to none of the `known` environments; what that was, a line each."""
    told = []
    for container in engine.runtime.containers():
        if container.environment not in known:
            engine.runtime.delete(container.id)
            engine.runtime.delete_logs(container.environment)
            told.append(f"removed container {container.id} of no environment")
    for stranger in sorted(engine.network.environments() - known):
        engine.network.detach(stranger)
        told.append(f"removed the network of {stranger}, which is no environment")
    for stranger in sorted(engine.volumes.environments() - known):
        engine.volumes.delete_environment(stranger)
        told.append(f"removed the bytes of {stranger}, which is no environment")
    reachable = engine.ledger.reachable().snapshots
    for snapshot in sorted(engine.volumes.snapshots() - reachable):
        engine.volumes.delete_snapshot(snapshot)
        told.append(f"removed snapshot {snapshot}, which no revision has")
    return told


def _hold_doors(engine: Engine, environment: Environment, spec: Spec) -> list[str]:
    if environment.down:
        return []
    try:
        doors = plan.wanted_doors(spec, held=environment.ports, fork=True)
        engine.doors.hold(environment.name, doors)
    except WyeError as error:
        return [f"{environment.name}: {error.message}"]
    return []


def _put_down(engine: Engine, environment: Environment, spec: Spec) -> list[str]:
    """A sleep that was cut short is finished."""
    running = [
        replica
        for replica in (str(SHELL), *plan.replicas(spec))
        if engine.runtime.container(apply.container_id(environment, replica)) is not None
    ]
    if running:
        apply.bring_down(engine, environment, spec, verb="reconcile")
    engine.network.detach(environment.id)
    return [f"{environment.name}: stopped {', '.join(running)}, which should sleep"] if running else []


def _bring_up(engine: Engine, environment: Environment, spec: Spec, interrupted: bool) -> list[str]:
    """Starts what should run, adopts what does. A service without a restart policy that ended by itself is left
    ended; if a verb was cut short it may have been that verb that ended it, so it is started."""
    found = {name: engine.runtime.container(apply.container_id(environment, name)) for name in plan.replicas(spec)}
    alive = {name for name, container in found.items() if container is not None and container.pid is not None}
    ended = {
        name
        for name, container in found.items()
        if container is not None
        and name not in alive
        and not (container.cut_short or interrupted)
        and plan.is_one_shot(spec.services[plan.service_of(spec, name)])
    }
    due = {plan.service_of(spec, name) for name in found if name not in ended} - set(environment.stopped)
    try:
        with engine.changing(environment.name):
            for name in alive:
                if plan.service_of(spec, name) in environment.stopped:
                    apply.stop_replica(engine, environment, None, name, verb="reconcile")
            apply.adopt(engine, environment, spec, alive | ended)
            apply.bring_up(engine, environment, spec, verb="reconcile", services=due, fresh=not alive)
            apply.keep_warm(engine, environment, spec)
    except WyeError as error:
        return [f"{environment.name}: {error.message}"]
    started = sorted(name for name in found if plan.service_of(spec, name) in due and name not in alive)
    return [f"{environment.name}: started {', '.join(started)}"] if started else []


def _close_intents(engine: Engine) -> list[str]:
    told = []
    for intent in engine.ledger.intents():
        told.append(_outcome(engine, intent))
        engine.ledger.end(intent.id)
        records.emit(engine, "recovered", intent.environment, verb=str(intent.verb))
    return told


def _outcome(engine: Engine, intent: Intent) -> str:
    head = engine.ledger.head(intent.environment)
    committed = any(
        entry.intent == intent.id and entry.verb is intent.verb
        for _, entry in (engine.ledger.walk(head[0], limit=8) if head else ())
    )
    if intent.verb is Verb.DISCARD:
        committed = head is None
    return f"{intent.verb} {intent.environment} was cut short: {'finished' if committed else 'undone'}"
