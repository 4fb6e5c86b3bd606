from __future__ import annotations

import base64
from dataclasses import replace

from wye.engine import spec_diff
from wye.model import File, ForkPolicy, Mount, MountKind, Port, Service, ServiceName, Spec, Volume

WEB = Service(
    name=ServiceName("web"),
    image="wye/python",
    environment={"A": "1", "B": "2"},
    command=("serve", "--fast"),
    mounts=(Mount(kind=MountKind.VOLUME, source="data", target="/data"),),
    ports=(Port(container=80), Port(container=53, protocol="udp")),
)
SPEC = Spec(project="p", services={"web": WEB}, volumes={"data": Volume(name="data")})


def changes(web: Service) -> dict[str, tuple[str | None, str | None]]:
    found = spec_diff.changes(SPEC, replace(SPEC, services={"web": web}))
    return {change.path: (change.before, change.after) for change in found}


def test_equal_specs() -> None:
    assert spec_diff.changes(SPEC, SPEC) == ()


def test_values_leaf_by_leaf() -> None:
    assert changes(replace(WEB, environment={"A": "9", "C": "3"}, image="wye/node")) == {
        "services.web.environment.A": ('"1"', '"9"'),
        "services.web.environment.B": ('"2"', None),
        "services.web.environment.C": (None, '"3"'),
        "services.web.image": ('"wye/python"', '"wye/node"'),
    }
    assert changes(replace(WEB, command=("serve",))) == {
        "services.web.command": ('["serve", "--fast"]', '["serve"]'),
    }


def test_mounts_and_ports_by_what_they_are_and_not_by_their_place() -> None:
    assert changes(replace(WEB, ports=WEB.ports[::-1])) == {}
    more = Mount(kind=MountKind.TMPFS, source="", target="/tmp")
    assert set(changes(replace(WEB, mounts=(more, *WEB.mounts)))) == {
        "services.web.mounts./tmp.kind",
        "services.web.mounts./tmp.read_only",
        "services.web.mounts./tmp.target",
    }
    moved = (replace(WEB.ports[0], host=8080), WEB.ports[1])
    assert changes(replace(WEB, ports=moved)) == {"services.web.ports.80/tcp.host": (None, "8080")}


def test_services_and_volumes_that_come_and_go() -> None:
    found = spec_diff.changes(SPEC, replace(SPEC, services={}, volumes={}, fork=ForkPolicy(egress=True)))
    paths = {change.path for change in found}
    assert {"services.web.image", "volumes.data.name", "fork.egress"} <= paths
    assert all(change.after is None for change in found if change.path != "fork.egress")
    assert [change.path for change in found] == sorted(paths)


def test_a_secret_is_never_told() -> None:
    def with_secret(text: str) -> Service:
        content = base64.b64encode(text.encode()).decode()
        return replace(WEB, files=(File(name="s", target="/run/secrets/s", content=content, secret=True),))

    before, after = (replace(SPEC, services={"web": with_secret(text)}) for text in ("hunter2", "hunter3"))
    (change,) = spec_diff.changes(before, after)
    assert change.path == "services.web.files./run/secrets/s.content"
    assert change.before != change.after
    for told in (change.before, change.after):
        assert "secret" in (told or "")
        assert "aHVudGVy" not in (told or "")
