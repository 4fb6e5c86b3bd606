"""exec: a further process in an environment. A sleeping environment wakes for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from wye.engine import apply, plan, records
from wye.engine.context import Engine, environment_name
from wye.engine.sleep import ensure_awake
from wye.errors import BadRequest, Conflict, NotFound
from wye.interfaces import ExecPlan, ExecProcess
from wye.model import SHELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`service` None: the shell. A replica may be named too ("web-2")."""

    argv: tuple[str, ...]
    service: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    rows: int = 24
    columns: int = 80


def open_exec(engine: Engine, name: str, request: Request, *, actor: str) -> ExecProcess:
    """Starts the process; it belongs to the caller, who closes it. Raises NotFound, Conflict for a dead service."""
    if not request.argv or not request.argv[0]:
        raise BadRequest("there is no command to run", hint="wye exec ENVIRONMENT -- COMMAND [ARGUMENT ...]")
    environment = ensure_awake(engine, environment_name(name), actor=actor)
    spec = records.spec_of(engine, environment)
    replica = request.service or SHELL
    if replica == SHELL:
        container = engine.runtime.container(apply.container_id(environment, SHELL))
        if container is None or container.pid is None:
            with engine.changing(environment.name):
                container = apply.start_shell(engine, environment, spec)
    else:
        if replica not in plan.replicas(spec):
            raise NotFound(
                f"environment {name!r} has no service {replica!r}", hint=f"there are: {', '.join(plan.replicas(spec))}"
            )
        container = engine.runtime.container(apply.container_id(environment, replica))
        if container is None or container.pid is None:
            raise Conflict(
                f"service {replica!r} of {name!r} does not run",
                hint=f"see 'wye logs {name} {replica}', start it, or exec in the shell by leaving out --service",
            )
    return engine.runtime.exec(
        container.id,
        ExecPlan(
            argv=request.argv,
            env=request.env,
            working_dir=request.working_dir,
            user=request.user,
            tty=request.tty,
            rows=request.rows,
            columns=request.columns,
        ),
    )
