"""How environments, their services and their ports look. Values in, tables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from wye.api import wire
from wye.cli import words
from wye.cli.tables import Cell, coloured, table

_LOOPBACK = "127.0.0.1"


def condition(service: wire.ServiceView) -> str:
    """One word for a service, or two: "healthy", "running", "exited (1)"."""
    if service.state == "running":
        return service.health if service.health != "none" else "running"
    if service.state == "exited":
        return "completed" if service.exit_code == 0 else f"exited ({service.exit_code})"
    return service.state


def summary(environment: wire.EnvironmentView) -> Text:
    """ "3 healthy, 1 running"; names those that are neither."""
    if not environment.awake:
        return coloured("asleep")
    conditions = [(service, condition(service)) for service in environment.services]
    good = ("healthy", "running", "completed")
    counted = Counter(word for _, word in conditions if word in good)
    parts = [coloured(f"{counted[word]} {word}", word) for word in good if counted[word]]
    parts += [
        coloured(f"{service.replica} {word}", word.split(" ")[0]) for service, word in conditions if word not in good
    ]
    return Text(", ").join(parts)


def address_of(port: wire.PortView) -> str:
    """Where to connect: all interfaces are reached through loopback."""
    host = _LOOPBACK if port.host_ip in ("0.0.0.0", "") else port.host_ip
    return f"[{host}]:{port.host_port}" if ":" in host else f"{host}:{port.host_port}"


def listing(environments: Sequence[wire.EnvironmentView], now: float) -> Table:
    several = len({environment.project for environment in environments}) > 1
    return table(
        ("NAME", "PROJECT", "SERVICES", "PORTS", "AGE", "FORK OF"),
        (
            (
                environment.name,
                environment.project if several else "",
                summary(environment),
                ", ".join(f"{port.service} {port.host_port}→{port.container}" for port in environment.ports),
                words.age(environment.created_at, now),
                environment.source or "",
            )
            for environment in environments
        ),
    )


def heading(environment: wire.EnvironmentView, now: float) -> Text:
    """One line: what it is, how old, how large."""
    parts = [f"project {environment.project}"]
    if environment.source and environment.origin:
        parts.append(f"fork of {environment.source} at {words.short(environment.origin)}")
    parts.append(f"{words.age(environment.created_at, now)} old")
    usage = environment.usage
    if usage is not None and usage.exclusive_bytes is not None:
        limit = f" of {words.size(usage.limit_bytes)}" if usage.limit_bytes is not None else ""
        parts.append(f"{words.size(usage.exclusive_bytes)}{limit} of its own")
    parts.append("awake" if environment.awake else "asleep")
    return Text.assemble((environment.name, "bold"), f"  {', '.join(parts)}")


def services(environment: wire.EnvironmentView, now: float) -> Table:
    def row(service: wire.ServiceView) -> Sequence[Cell]:
        word = condition(service)
        return (
            service.replica,
            coloured(word, word.split(" ")[0]),
            words.age(service.started_at, now) if service.started_at is not None and service.pid is not None else "",
            ", ".join(
                f"{address_of(port)}→{port.container}"
                for port in environment.ports
                if port.service == service.service and service.replica == service.service
            ),
            service.address,
            str(service.restarts) if service.restarts else "",
            service.image,
            service.reason,
        )

    heads = ("SERVICE", "STATE", "UP", "PORTS", "ADDRESS", "RESTARTS", "IMAGE", "WHY")
    return table(heads, (row(service) for service in environment.services))


def port_table(ports: Sequence[wire.PortView], names: Sequence[str] = ()) -> Table:
    """`names`: the environment of each port, where there are several."""
    return table(
        ("ENVIRONMENT", "SERVICE", "PORT", "AT"),
        (
            (name, port.service, f"{port.container}/{port.protocol}", address_of(port))
            for port, name in zip(ports, names or [""] * len(ports), strict=True)
        ),
    )


def ports_of(environments: Sequence[wire.EnvironmentView]) -> Table:
    pairs = [(port, environment.name) for environment in environments for port in environment.ports]
    return port_table([port for port, _ in pairs], [name for _, name in pairs] if len(environments) > 1 else ())


def steps(taken: dict[str, float]) -> str:
    """ "snapshot 1.2 ms, record 0.8 ms"."""
    return ", ".join(f"{step} {words.duration(seconds)}" for step, seconds in taken.items())
