"""Checks: what must hold after a merge, tried on a whole copy of the target with the merge in it.

`x-wye: checks:` is a list; each has `run` (a command in the copy's shell), `http` (service, port, path; optionally the
status and a text in the body) or `sql` (a query that must return no rows, in the merge's own transaction), and
optionally `name`, `timeout` in seconds, and `service`. The copy is hidden: in no ledger, on no port, without egress.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from wye.engine import apply, comparing, materialising
from wye.engine.context import Engine, new_environment_id
from wye.engine.proposing import Proposal
from wye.engine.servers import Store
from wye.engine.views import CheckView
from wye.errors import BadRequest, Unavailable, WyeError
from wye.interfaces import Progress, Report, Terms
from wye.merge.conflict import Conflict
from wye.model import Environment, Spec

_TIMEOUT_S = 60.0
_LISTENS_S = 10.0
_LOOK_EVERY_S = 0.05
_KINDS = ("run", "http", "sql")
_OUTPUT = 65536
_TIMED_OUT = 124
_FAILED = "check-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`body`: of its kind. `timeout_s` for all of it."""

    name: str
    kind: str
    body: Any
    service: str = ""
    timeout_s: float = _TIMEOUT_S


def checks_of(spec: Spec, commands: Sequence[str]) -> list[Check]:
    """The project's checks and those of the command line. SQL checks are not among them: they run inside the merge.

    Raises BadRequest for one that makes no sense."""
    found = [check for check in _declared(spec) if check.kind != "sql"]
    return found + [Check(name=command, kind="run", body=command) for command in commands]


def sql_checks(spec: Spec, service: str) -> list[tuple[str, float]]:
    """Queries for the databases of `service`, each with its limit in seconds: those that name it, and those that name
    none."""
    return [(str(check.body), check.timeout_s) for check in _sql(spec, service)]


def terms(proposal: Proposal, store: Store, resolutions: Mapping[str, Any], *, dry_run: bool = False) -> Terms:
    """On which a database takes its changes: the target's own, what people decided, and the queries that must find
    nothing afterwards."""
    made = comparing.terms(proposal.ours.spec, resolutions, dry_run=dry_run)
    made.settings["sql_checks"] = sql_checks(proposal.spec, str(store.service.name))
    return made


def sql_failures(spec: Spec, refused: Sequence[Conflict]) -> tuple[list[Conflict], list[CheckView]]:
    """A database's refusals without those that are failed checks, and these checks."""
    names = {str(check.body): check.name for check in _declared(spec) if check.kind == "sql"}
    failed = []
    for each in refused:
        if each.kind == _FAILED:
            query = str(each.key[0]) if each.key else ""
            output = "\n".join([each.detail, *(str(row) for row in each.ours or ())])[:_OUTPUT]
            failed.append(CheckView(name=names.get(query, query), passed=False, seconds=0.0, output=output))
    return [each for each in refused if each.kind != _FAILED], failed


def sql_passed(spec: Spec, service: str) -> list[CheckView]:
    """All checks of a service's databases, after none of them failed."""
    return [CheckView(name=check.name, passed=True, seconds=0.0, output="") for check in _sql(spec, service)]


def _sql(spec: Spec, service: str) -> list[Check]:
    return [check for check in _declared(spec) if check.kind == "sql" and check.service in ("", service)]


def _declared(spec: Spec) -> list[Check]:
    text = spec.settings.get("checks")
    declared = (msgspec.json.decode(text) if text else None) or []
    if not isinstance(declared, list):
        raise BadRequest("x-wye.checks is not a list")
    return [_check(number, each) for number, each in enumerate(declared, 1)]


def _check(number: int, given: Any) -> Check:
    kinds = [kind for kind in _KINDS if isinstance(given, dict) and kind in given]
    if len(kinds) != 1:
        raise BadRequest(f"check {number} needs one of: {', '.join(_KINDS)}")
    kind = kinds[0]
    return Check(
        name=str(given.get("name") or f"{kind} {given[kind]}"),
        kind=kind,
        body=given[kind],
        service=str(given.get("service", "")),
        timeout_s=float(given.get("timeout", _TIMEOUT_S)),
    )


def run(
    engine: Engine, proposal: Proposal, resolutions: dict[str, Any], checks: Sequence[Check], report: Report
) -> tuple[CheckView, ...]:
    """Runs every check on a copy of the target with the merge in it. A copy that does not come up fails them all."""
    with hidden_copy(engine, proposal.ours) as copy:
        began = engine.host.monotonic()
        try:
            merged = materialising.materialise(engine, copy, proposal, resolutions, verb="check")
            apply.bring_up(engine, merged, proposal.spec, verb="check", fresh=False)
            apply.await_ready(engine, merged, proposal.spec, list(proposal.spec.services), apply.START_TIMEOUT_S)
        except WyeError as error:
            seconds = engine.host.monotonic() - began
            return (CheckView(name="every service runs", passed=False, seconds=seconds, output=error.message),)
        seconds = engine.host.monotonic() - began
        done = [CheckView(name="every service runs", passed=True, seconds=seconds, output="")]
        for check in checks:
            report(Progress(step="check", subject=check.name))
            done.append(_run_one(engine, merged, proposal.spec, check))
        return tuple(done)


@contextlib.contextmanager
def hidden_copy(engine: Engine, side: comparing.Side) -> Iterator[Environment]:
    """A fork of a side that nobody knows of, and nothing of it afterwards. It does not run yet."""
    copy = replace(
        side.environment,
        id=new_environment_id(),
        origin=side.revision,
        ports={},
        stopped=(),
        awake=True,
        spec=engine.ledger.put_spec(side.spec),
        images=side.images,
    )
    engine.host.at("copy:volumes")
    engine.volumes.fork(side.snapshot, copy.id)
    try:
        yield copy
    finally:
        for container in engine.runtime.containers():
            if container.environment == copy.id:
                engine.supervisor.forget(container.id)
                engine.runtime.delete(container.id)
        engine.network.detach(copy.id)
        engine.runtime.delete_logs(copy.id)
        engine.volumes.delete_environment(copy.id)


def _run_one(engine: Engine, environment: Environment, spec: Spec, check: Check) -> CheckView:
    began = engine.host.monotonic()
    try:
        passed, output = (_command if check.kind == "run" else _request)(engine, environment, spec, check)
    except (WyeError, OSError, http.client.HTTPException) as error:
        passed, output = False, str(error)
    seconds = engine.host.monotonic() - began
    return CheckView(name=check.name, passed=passed, seconds=seconds, output=output[:_OUTPUT])


def _command(engine: Engine, environment: Environment, spec: Spec, check: Check) -> tuple[bool, str]:
    """In the shell, or in the service that the check names."""
    identity = apply.container_id(environment, check.service)
    if not check.service:
        identity = apply.start_shell(engine, environment, spec).id
    began = engine.host.monotonic()
    argv = ["/bin/sh", "-c", str(check.body)]
    code, output = engine.runtime.check(identity, argv, check.timeout_s, output_bytes=_OUTPUT)
    if code == 0:
        return True, output
    late = code == _TIMED_OUT and engine.host.monotonic() - began >= check.timeout_s
    how = _late(check) if late else f"ended with status {code}"
    return False, f"{output[: _OUTPUT - len(how) - 1]}\n{how}".strip()


def _late(check: Check) -> str:
    return f"ended by wye: it took more than {check.timeout_s:g} s"


def _dial(engine: Engine, container: str, port: int, timeout_s: float) -> socket.socket:
    """A service without a healthcheck counts as ready when it runs, which is before it listens."""
    deadline = engine.host.monotonic() + timeout_s
    while True:
        try:
            return engine.runtime.dial(container, port)
        except Unavailable:
            if engine.host.monotonic() > deadline:
                raise
            engine.host.sleep(_LOOK_EVERY_S)


def _cut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _request(engine: Engine, environment: Environment, spec: Spec, check: Check) -> tuple[bool, str]:
    """A GET to a service's own port, from inside its network."""
    wanted = check.body if isinstance(check.body, dict) else {"path": str(check.body)}
    service = str(wanted.get("service") or check.service)
    if service not in spec.services:
        raise BadRequest(f"check {check.name!r} names no service that is there")
    ports = [port.container for port in spec.services[service].ports]
    port = int(wanted.get("port") or (ports[0] if ports else 80))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=check.timeout_s)
    began = engine.host.monotonic()
    dialed = _dial(engine, apply.container_id(environment, service), port, min(check.timeout_s, _LISTENS_S))
    connection.sock = dialed
    # One limit for all of it: a service that sends a byte now and then would keep each single read in time.
    late = threading.Event()
    left_s = max(0.0, check.timeout_s - (engine.host.monotonic() - began))
    limit = threading.Timer(left_s, _cut, (dialed, late))
    limit.start()
    try:
        connection.request("GET", str(wanted.get("path", "/")), headers={"Host": service})
        answer = connection.getresponse()
        body = answer.read(_OUTPUT).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, _late(check) if late.is_set() else f"no answer: {str(error) or type(error).__name__}"
    finally:
        limit.cancel()
        connection.close()
    if late.is_set():
        return False, f"{answer.status} {answer.reason}\n{body}\n{_late(check)}"
    passed = answer.status == int(wanted.get("status", 200)) and str(wanted.get("body", "")) in body
    return passed, f"{answer.status} {answer.reason}\n{body}"
