"""What can only be judged over all services: clashes of names and ports, and combinations that cannot work. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from wye.compose.at import At
from wye.compose.service import Declared
from wye.model import Condition, Port, Service, replica_names

_ANY = ("0.0.0.0", "::")


def validate(services: Mapping[str, Service], declared: Mapping[str, Declared]) -> None:
    """Raises ComposeError."""
    places = {name: entry.at for name, entry in declared.items()}
    for name, service in services.items():
        if service.image is None and service.build is None:
            raise places[name].error("has neither an image nor a build", hint=f"services.{name}.image: ...")
        _check_network_mode(service, places[name])
        _check_waiting(service, services, places[name])
    _check_names(services, places)
    _check_ports(services, places)


def _check_network_mode(service: Service, at: At) -> None:
    if service.network_mode is None:
        return
    for key, given in (("ports", service.ports), ("links", at.child("links") is not at)):
        if given:
            raise at.child(key).error(f'does not go with network_mode "{service.network_mode}"')


def _check_waiting(service: Service, services: Mapping[str, Service], at: At) -> None:
    for target, dependency in service.depends_on.items():
        check = services[target].healthcheck
        if dependency.condition is Condition.HEALTHY and check is not None and not check.test:
            place = at.child("depends_on").child(target)
            raise place.error(f"waits for {target} to be healthy, and its healthcheck is disabled")


def _check_names(services: Mapping[str, Service], places: Mapping[str, At]) -> None:
    containers: dict[str, str] = {}
    for name, service in services.items():
        for replica in replica_names(service):
            if replica in containers:
                other = containers[replica]
                raise places[name].error(f"a replica of {other} and one of {name} are both named {replica}")
            containers[replica] = name
    given: dict[str, str] = {}
    for name, at in places.items():
        place = at.child("container_name")
        if place is at:
            continue
        text = place.string()
        if text in given:
            raise place.error(f"the services {given[text]} and {name} are both named {text}")
        if services[name].replicas > 1:
            raise place.error(f"{services[name].replicas} replicas cannot have one name", hint="remove container_name")
        given[text] = name


def _check_ports(services: Mapping[str, Service], places: Mapping[str, At]) -> None:
    taken: dict[tuple[int, str], list[tuple[str, Port]]] = {}
    for name, service in services.items():
        for port in service.ports:
            if port.host is None:
                continue
            others = taken.setdefault((port.host, port.protocol), [])
            for other, theirs in others:
                if _overlap(port.host_ip, theirs.host_ip):
                    who = f"{other} and {name}" if other != name else f"{name} twice"
                    raise (
                        places[name]
                        .child("ports")
                        .error(
                            f"the host port {port.host}/{port.protocol} is wanted by {who}",
                            hint="change the number before the colon, or leave it out for any free one",
                        )
                    )
            others.append((name, port))


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _ANY or other in _ANY
