from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from wye.compose.load import Loaded
from wye.model import Condition, Dependency, Spec

if TYPE_CHECKING:
    from conftest import Project

Messages = Callable[[Loaded], list[str]]


def spec(project: Project, body: str, **options: object) -> Spec:
    return project.load(f"services:\n{body}", **options).spec


def test_depends_on_in_both_forms(project: Project) -> None:
    found = spec(
        project,
        """
  a: {image: i, depends_on: [b, c]}
  b:
    image: i
    depends_on:
      c: {condition: service_healthy, restart: true}
      gone: {condition: service_started, required: false}
  c: {image: i, healthcheck: {test: x}}
  d: {image: i, depends_on: {c: {condition: service_completed_successfully, required: false}}}
""",
    )
    assert {name: service.depends_on for name, service in found.services.items()} == {
        "a": {"b": Dependency(), "c": Dependency()},
        "b": {"c": Dependency(condition=Condition.HEALTHY, restart=True)},
        "c": {},
        "d": {"c": Dependency(condition=Condition.COMPLETED, required=False)},
    }


def test_implied_dependencies(project: Project) -> None:
    found = spec(
        project,
        """
  a: {image: i, links: [b, "c:db"], volumes_from: [d], depends_on: {b: {condition: service_healthy}}}
  b: {image: i}
  c: {image: i}
  d: {image: i}
  e: {image: i, network_mode: "service:b"}
""",
    )
    assert found.services["a"].depends_on == {
        "b": Dependency(condition=Condition.HEALTHY),
        "c": Dependency(),
        "d": Dependency(),
    }
    assert found.services["e"].depends_on == {"b": Dependency()}
    assert found.services["e"].network_mode == "service:b"
    assert (found.services["b"].aliases, found.services["c"].aliases) == ((), ("db",))


def test_volumes_from(project: Project) -> None:
    found = spec(
        project,
        """
  a: {image: i, volumes_from: ["b:ro"], volumes: ["own:/x"]}
  b: {image: i, volumes_from: [c], volumes: ["two:/x", "two:/y"]}
  c: {image: i, volumes: ["three:/y", "three:/z"], tmpfs: /t}
volumes: {own: {}, two: {}, three: {}}
""",
    )
    mounts = {
        name: [(m.source, m.target, m.read_only) for m in service.mounts] for name, service in found.services.items()
    }
    assert mounts["b"] == [("two", "/x", False), ("two", "/y", False), ("three", "/z", False)]
    assert mounts["a"] == [("own", "/x", False), ("two", "/y", True), ("three", "/z", True)]


def test_profiles(project: Project) -> None:
    body = """
  web: {image: i, depends_on: {debug: {condition: service_started, required: false}}}
  debug: {image: i, profiles: [debug, dev]}
  seed: {image: i, profiles: [seed]}
"""
    assert set(spec(project, body).services) == {"web"}
    assert set(spec(project, body, profiles=frozenset({"dev"})).services) == {"web", "debug"}
    assert set(spec(project, body, profiles=frozenset({"*"})).services) == {"web", "debug", "seed"}
    assert set(spec(project, body, environment={"COMPOSE_PROFILES": "seed, debug"}).services) == {
        "web",
        "debug",
        "seed",
    }
    assert spec(project, body).services["web"].depends_on == {}


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("  a: {image: i, depends_on: [bb]}\n  b: {image: i}\n  bx: {image: i}\n",
         "services.a.depends_on: there is no service bb (compose.yaml:2)", ...),
        ("  a:\n    image: i\n    depends_on:\n      x: {condition: service_started}\n",
         "services.a.depends_on.x: there is no service x (compose.yaml:5)", None),
        ("  a: {image: i, links: ['x:y']}\n", "services.a.links: there is no service x (compose.yaml:2)", None),
        ("  a: {image: i, volumes_from: [x]}\n", "services.a.volumes_from: there is no service x (compose.yaml:2)",
         None),
        ("  a: {image: i, network_mode: 'service:x'}\n",
         "services.a.network_mode: there is no service x (compose.yaml:2)", None),
        ("  a: {image: i, depends_on: [b]}\n  b: {image: i, profiles: [p]}\n",
         "services.a.depends_on: the service b belongs to a profile that is not active (compose.yaml:2)",
         "activate one of its profiles"),
        ("  a: {image: i, profiles: [p]}\n", "services: no service is active (compose.yaml:1)", ...),
        ("  a: {image: i, profiles: [p], portz: 1}\n  b: {image: i}\n",
         "services.a.portz: unknown key (compose.yaml:2)", "did you mean ports?"),
        ("  a: {image: i, depends_on: {b: {condition: service_ready}}}\n",
         'services.a.depends_on.b.condition: "service_ready" is not a condition (compose.yaml:2)', ...),
        ("  a: {image: i, depends_on: {b: {}}}\n", 'services.a.depends_on.b: "condition" is missing (compose.yaml:2)',
         None),
        ("  a: {image: i, depends_on: {b: {condition: service_healthy}}}\n  b: {image: i, healthcheck: {test: [NONE]}}",
         "services.a.depends_on.b: waits for b to be healthy, and its healthcheck is disabled (compose.yaml:2)", None),
        ("  a: {image: i, volumes_from: ['container:x']}\n",
         "services.a.volumes_from[0]: names a container that is outside of the environment (compose.yaml:2)", ...),
    ],
)  # fmt: skip
def test_what_is_wrong(project: Project, body: str, message: str, hint: object) -> None:
    error = project.error(f"services:\n{body}")
    assert str(error) == message
    assert error.hint == hint or (hint is ... and error.hint)


@pytest.mark.parametrize(
    ("body", "cycle"),
    [
        ("  a: {image: i, depends_on: [a]}\n", "a → a"),
        (
            "  a: {image: i, depends_on: [b]}\n  b: {image: i, depends_on: [c]}\n  c: {image: i, depends_on: [b]}\n",
            "b → c → b",
        ),
        ("  a: {image: i, links: [b]}\n  b: {image: i, network_mode: 'service:a'}\n", "a → b → a"),
    ],
)
def test_cycles_are_named(project: Project, body: str, cycle: str) -> None:
    assert f"services wait for each other: {cycle} (compose.yaml:" in str(project.error(f"services:\n{body}"))


def test_many_ways_to_one_service_are_no_cycle(project: Project) -> None:
    found = spec(project, "  a: {image: i, depends_on: [b, c]}\n  b: {image: i, depends_on: [c]}\n  c: {image: i}\n")
    assert set(found.services) == {"a", "b", "c"}


def test_a_long_chain_needs_no_stack(project: Project) -> None:
    lines = [f"  s{n}: {{image: i, depends_on: [s{n + 1}], volumes_from: [s{n + 1}]}}\n" for n in range(1100)]
    found = spec(project, "".join(lines) + "  s1100: {image: i, volumes: [/d]}\n", judged=False)
    assert len(found.services["s0"].mounts) == 1


def test_an_alias_that_is_a_services_name_is_left_out(project: Project, messages: Messages) -> None:
    loaded = project.load("services:\n  a: {image: i, links: ['b:c', 'b:d']}\n  b: {image: i}\n  c: {image: i}\n")
    assert loaded.spec.services["b"].aliases == ("d",)
    assert messages(loaded) == ["services.b: the alias c is left out, because a service has that name"]
