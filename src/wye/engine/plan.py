"""From what is wanted and what is there to what must be done. Pure: values in, values out.

Addresses, container plans, the order of starting, and what an `up` changes are decided here; the verbs
carry it out.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Mapping

from wye.errors import BadRequest, Exhausted, InvariantError
from wye.interfaces import Bind, ContainerPlan, Door, NetworkShape, Publication
from wye.model import (
    SHELL,
    Environment,
    File,
    Image,
    Limits,
    MountKind,
    RestartPolicy,
    Service,
    Spec,
    published,
    replica_names,
)

_FIRST_ADDRESS = 2
"""The gateway has .1."""


def gateway(subnet: str) -> str:
    return str(ipaddress.ip_network(subnet).network_address + 1)


def networked(service: Service) -> bool:
    """Whether a service has an address of its own."""
    return service.network_mode is None


def assign_addresses(spec: Spec, previous: Mapping[str, str], subnet: str) -> dict[str, str]:
    """A private address for each replica and the shell. Whoever had one keeps it: a running service's
    neighbours have its address in their hosts file, and a fork has its source's."""
    wanted = [
        name
        for key in sorted(spec.services)
        if networked(spec.services[key])
        for name in replica_names(spec.services[key])
    ]
    wanted.insert(0, SHELL)
    kept = {name: previous[name] for name in wanted if name in previous}
    taken = set(kept.values())
    network = ipaddress.ip_network(subnet)
    free = (str(address) for address in _hosts(network) if str(address) not in taken)
    result = dict(kept)
    for name in wanted:
        if name not in result:
            address = next(free, None)
            if address is None:
                raise Exhausted(f"{subnet} has too few addresses for {len(wanted)} containers")
            result[name] = address
    return result


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterable[object]:
    for offset in range(_FIRST_ADDRESS, network.num_addresses - 1):
        yield network.network_address + offset


def network_shape(spec: Spec, addresses: Mapping[str, str], subnet: str) -> NetworkShape:
    """The network of an environment and of every fork that has the same spec."""
    ports: list[tuple[str, str, int, str]] = []
    for key in sorted(spec.services):
        service = spec.services[key]
        owner = address_owner(spec, service)
        if owner is None:
            continue
        ports += [(name, addresses[owner], port.container, port.protocol) for name, port in published(service)]
    return NetworkShape(
        subnet=subnet, gateway=gateway(subnet), endpoints=tuple(sorted(addresses.items())), ports=tuple(ports)
    )


def address_owner(spec: Spec, service: Service) -> str | None:
    """The replica in whose network namespace a service runs; None if it has no network."""
    seen = set()
    while service.network_mode is not None:
        mode, _, other = service.network_mode.partition(":")
        if mode != "service" or other in seen or other not in spec.services:
            return None
        seen.add(other)
        service = spec.services[other]
    return str(service.name)


def wanted_doors(spec: Spec, *, held: Mapping[str, int], fork: bool) -> tuple[Door, ...]:
    """Published ports as wanted: production's as its compose file says, a fork's anew, or those it has."""
    doors = []
    for key in sorted(spec.services):
        for name, port in published(spec.services[key]):
            host_port = held.get(name) if fork or port.host is None else port.host
            doors.append(Door(key=name, host_ip=port.host_ip, port=host_port, protocol=port.protocol))
    return tuple(doors)


def publications(spec: Spec, ports: Mapping[str, int]) -> tuple[Publication, ...]:
    return tuple(
        Publication(key=door.key, host_ip=door.host_ip, host_port=ports[door.key], protocol=door.protocol)
        for door in wanted_doors(spec, held=ports, fork=True)
        if door.key in ports
    )


def egress(spec: Spec, environment: Environment) -> dict[str, bool]:
    """By replica: who may reach beyond the environment."""
    allowed = spec.fork.egress if environment.is_fork else True
    result = {str(SHELL): allowed}
    for service in spec.services.values():
        for replica in replica_names(service):
            result[replica] = allowed and service.egress
    return result


# ---------------------------------------------------------------- order


def start_order(spec: Spec) -> tuple[str, ...]:
    """Services, each after those it depends on; among equals by name. Raises BadRequest for a cycle."""
    order: list[str] = []
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == "done" or name not in spec.services:
            return
        if state.get(name) == "open":
            raise BadRequest(f"services depend on each other in a circle: {' -> '.join((*path, name))}")
        state[name] = "open"
        for dependency in sorted(spec.services[name].depends_on):
            visit(dependency, (*path, name))
        state[name] = "done"
        order.append(name)

    for name in sorted(spec.services):
        visit(name, ())
    return tuple(order)


def is_one_shot(service: Service) -> bool:
    """Runs to its end and stays ended."""
    return service.restart.policy is RestartPolicy.NO


def service_changes(
    before: Spec | None, before_images: Mapping[str, Image], after: Spec, after_images: Mapping[str, Image]
) -> dict[str, str]:
    """By service: "created", "changed", "unchanged", "removed"."""
    old = {} if before is None else before.services
    changes = {}
    for name, service in after.services.items():
        if name not in old:
            changes[name] = "created"
        else:
            same = service == old[name] and _same_image(before_images.get(name), after_images.get(name))
            changes[name] = "unchanged" if same else "changed"
    changes.update({name: "removed" for name in old if name not in after.services})
    return changes


def _same_image(one: Image | None, other: Image | None) -> bool:
    return one is not None and other is not None and one.digest == other.digest and one.config == other.config


# ---------------------------------------------------------------- containers


def container_plan(
    environment: Environment, spec: Spec, replica: str, *, resolver: str, fork_limits: Limits | None = None
) -> ContainerPlan:
    """How to run one replica of a service."""
    service = _service_of(spec, replica)
    image = environment.images[str(service.name)]
    config = image.config
    owner = address_owner(spec, service)
    namespace = replica if networked(service) else owner
    limits = _tighter(service.limits, fork_limits) if fork_limits is not None else service.limits
    return ContainerPlan(
        environment=environment.id,
        name=replica,
        image=image,
        argv=_argv(service, image),
        env={**config.environment, **service.environment},
        working_dir=service.working_dir or config.working_dir or "/",
        user=service.user if service.user is not None else config.user,
        hostname=service.hostname or replica,
        binds=tuple(
            Bind(source=_bind_source(spec, mount.source, mount.subpath), target=mount.target, read_only=mount.read_only)
            for mount in service.mounts
            if mount.kind is MountKind.VOLUME
        ),
        tmpfs=tuple(mount for mount in service.mounts if mount.kind is MountKind.TMPFS),
        files=(*service.files, *_network_files(environment, spec, replica, service, resolver)),
        namespace=namespace,
        limits=limits,
        init=service.init,
        tty=service.tty,
        stdin_open=service.stdin_open,
        read_only=service.read_only,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        no_new_privileges=service.no_new_privileges,
        group_add=service.group_add,
        sysctls=service.sysctls,
        ulimits=service.ulimits,
        stop_signal=service.stop_signal or config.stop_signal or "SIGTERM",
        labels={"wye.environment": environment.name, "wye.service": str(service.name), **service.labels},
        durable=not environment.is_fork,
        yields=environment.is_fork,
    )


def shell_plan(environment: Environment, spec: Spec, image: Image, *, resolver: str) -> ContainerPlan:
    """The container that `exec` uses by default: every volume under /volumes, the environment's network.

    People are there as the image's own user; with sudo they gain rights inside its user namespace, and nothing outside.
    """
    return ContainerPlan(
        environment=environment.id,
        name=SHELL,
        image=image,
        argv=("sleep", "infinity"),
        env={**image.config.environment, "WYE_ENVIRONMENT": environment.name, "WYE_PROJECT": environment.project},
        working_dir=image.config.working_dir or "/",
        user=image.config.user,
        hostname=f"{environment.name}"[:63],
        binds=tuple(Bind(source=f"volumes/{name}", target=f"/volumes/{name}") for name in sorted(spec.volumes)),
        files=hosts_files(environment, spec, SHELL, resolver=resolver),
        namespace=SHELL,
        init=False,
        limits=spec.fork.limits if environment.is_fork else Limits(),
        no_new_privileges=False,
        stop_signal="SIGKILL",
        labels={"wye.environment": environment.name, "wye.service": SHELL},
        durable=not environment.is_fork,
        yields=environment.is_fork,
    )


def _service_of(spec: Spec, replica: str) -> Service:
    for service in spec.services.values():
        if replica in replica_names(service):
            return service
    raise InvariantError(f"no service has a replica {replica!r}")


def service_of(spec: Spec, replica: str) -> str:
    """The service that a replica belongs to; the shell belongs to itself."""
    return str(SHELL) if replica == SHELL else str(_service_of(spec, replica).name)


def _argv(service: Service, image: Image) -> tuple[str, ...]:
    """As the image spec has it: an entrypoint of one's own drops the image's command."""
    if service.entrypoint is not None:
        argv = (*service.entrypoint, *(service.command or ()))
    else:
        command = service.command if service.command is not None else image.config.command
        argv = (*image.config.entrypoint, *command)
    if not argv:
        raise BadRequest(
            f"service {service.name!r} has nothing to run: neither it nor the image {image.reference!r} has a command",
            hint=f"give services.{service.name}.command",
        )
    return argv


def _bind_source(spec: Spec, volume: str, subpath: str) -> str:
    entry = spec.volumes[volume]
    source = f"volumes/{volume}"
    if entry.single_file and entry.imported_from is not None:
        return f"{source}/{entry.imported_from.rsplit('/', 1)[-1]}"
    return f"{source}/{subpath.strip('/')}" if subpath else source


def _tighter(own: Limits, cap: Limits) -> Limits:
    """Both limits hold: the lower one where both say something."""

    def lower(one: float | None, other: float | None) -> float | None:
        return min(value for value in (one, other) if value is not None) if one or other else None

    memory, pids = lower(own.memory_bytes, cap.memory_bytes), lower(own.pids, cap.pids)
    return Limits(
        cpus=lower(own.cpus, cap.cpus),
        memory_bytes=None if memory is None else int(memory),
        pids=None if pids is None else int(pids),
        shm_bytes=own.shm_bytes,
    )


# ---------------------------------------------------------------- names in the private network


def hosts_text(environment: Environment, spec: Spec, replica: str) -> str:
    """/etc/hosts: every service under its name and aliases. A service with replicas has an address for each."""
    lines = ["127.0.0.1\tlocalhost"]
    for key in sorted(spec.services):
        service = spec.services[key]
        owner = address_owner(spec, service)
        if owner is None:
            continue
        for name in replica_names(service):
            address = environment.addresses.get(name if networked(service) else owner)
            if address is not None:
                names = dict.fromkeys([name, key, *service.aliases, *([service.hostname] if service.hostname else [])])
                lines.append(f"{address}\t{' '.join(names)}")
    own = environment.addresses.get(replica)
    if replica == SHELL and own is not None:
        lines.append(f"{own}\t{environment.name}")
    if replica != SHELL:
        lines += [f"{address}\t{name}" for name, address in _service_of(spec, replica).extra_hosts]
    return "\n".join(lines) + "\n"


def hosts_files(environment: Environment, spec: Spec, replica: str, *, resolver: str) -> tuple[File, ...]:
    return (
        _file("hosts", "/etc/hosts", hosts_text(environment, spec, replica)),
        _file("resolv.conf", "/etc/resolv.conf", resolver),
    )


def _network_files(
    environment: Environment, spec: Spec, replica: str, service: Service, resolver: str
) -> tuple[File, ...]:
    if service.dns:
        resolver = "".join(f"nameserver {address}\n" for address in service.dns)
    return hosts_files(environment, spec, replica, resolver=resolver)


def _file(name: str, target: str, text: str) -> File:
    return File(name=name, target=target, content=base64.b64encode(text.encode()).decode(), mode=0o644)


def replicas(spec: Spec) -> tuple[str, ...]:
    """Every container that the spec asks for."""
    return tuple(replica for key in sorted(spec.services) for replica in replica_names(spec.services[key]))
