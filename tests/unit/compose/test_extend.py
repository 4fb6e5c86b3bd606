"""`extends` and `include`: a project made of parts, each with its own directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wye.model import RestartPolicy

if TYPE_CHECKING:
    from conftest import Project


def test_a_service_extends_another_of_its_file(project: Project) -> None:
    loaded = project.load(
        """
        services:
          base: {image: a, environment: {A: 1, B: 1}, restart: always, profiles: [never]}
          web:
            extends: base
            profiles: !override []
            environment: {B: 2}
          worker:
            extends: {service: web}
            command: work
        """,
        judged=False,
    )
    worker = loaded.spec.services["worker"]
    assert set(loaded.spec.services) == {"web", "worker"}
    assert (worker.image, worker.environment, worker.command) == ("a", {"A": "1", "B": "2"}, ("work",))
    assert worker.restart.policy is RestartPolicy.ALWAYS


def test_paths_of_an_extended_file_start_from_where_it_is(project: Project) -> None:
    project.write("lib/base.yaml", "services: {base: {image: a, env_file: e.env, volumes: [./d:/d]}}")
    project.write("lib/e.env", "A=1")
    project.write("lib/d/x")
    loaded = project.load("services: {web: {extends: {file: lib/base.yaml, service: base}}}")
    assert loaded.spec.services["web"].environment == {"A": "1"}
    assert loaded.binds[0].path == str(project.directory / "lib/d")


def test_extends_goes_through_files(project: Project) -> None:
    project.write("b/b.yaml", "services: {b: {extends: {file: ../c/c.yaml, service: c}, user: b}}")
    project.write("c/c.yaml", "services: {c: {image: 'c:${TAG}', user: c, hostname: c}}")
    web = project.load(
        "services: {web: {extends: {file: b/b.yaml, service: b}}}", environment={"TAG": "7"}
    ).spec.services["web"]
    assert (web.image, web.user, web.hostname) == ("c:7", "b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "services:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: a}\n",
            "services.a.extends: extends itself: a → b → c → a (compose.yaml:2)",
        ),
        ("services:\n  a: {extends: x}\n", "services.a.extends: there is no service x to extend in compose.yaml"),
        ("services:\n  a: {extends: {file: f.yaml}}\n", 'services.a.extends: "service" is missing (compose.yaml:2)'),
        ("services:\n  a: {extends: {file: f.yaml, service: a}}\n", "f.yaml is not there (compose.yaml:2)"),
        ("services:\n  a: {extends: {service: a, files: f}}\n", "services.a.extends.files: unknown key"),
        ("services:\n  a: {extends: [b]}\n", "services.a.extends: must be a mapping, not a list"),
        ("services:\n  a: {extends: b}\n  b: 5\n", "services.b: must be a mapping, not an integer (compose.yaml:3)"),
    ],
)
def test_what_cannot_be_extended(project: Project, text: str, message: str) -> None:
    assert message in str(project.error(text))


def test_extends_in_a_circle_through_files(project: Project) -> None:
    project.write("other.yaml", "services: {b: {extends: {file: compose.yaml, service: a}}}")
    error = project.error("services: {a: {extends: {file: other.yaml, service: b}}}")
    assert "extends itself: a → b → a" in str(error)


def test_a_chain_has_an_end(project: Project) -> None:
    lines = [f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(2000)]
    assert "a chain of more than" in str(project.error("services:\n" + "".join(lines)))


def test_extending_cannot_multiply_a_file(project: Project) -> None:
    big = ", ".join(f"K{n}: 1" for n in range(1000))
    lines = "".join(f"  s{n}: {{extends: base}}\n" for n in range(500))
    error = project.error(f"services:\n  base: {{image: a, environment: {{{big}}}}}\n{lines}")
    assert "values with all that is extended" in str(error)


def test_an_included_project_has_its_own_directory_and_variables(project: Project) -> None:
    project.write(
        "db/compose.yaml",
        "services: {db: {image: 'pg:${TAG}', volumes: [data:/d, ./init:/i], environment: [TAG]}}\nvolumes: {data: {}}",
    )
    project.write("db/init/a.sql")
    project.write("db/.env", "TAG=16")
    loaded = project.load("include: [db/compose.yaml]\nservices: {web: {image: a, depends_on: [db]}}")
    db = loaded.spec.services["db"]
    assert (db.image, db.environment) == ("pg:16", {"TAG": "16"})
    assert loaded.binds[0].path == str(project.directory / "db/init")
    assert "data" in loaded.spec.volumes


def test_the_callers_variables_win_over_an_included_env_file(project: Project) -> None:
    project.write("db/compose.yaml", "services: {db: {image: 'pg:${TAG}'}}")
    project.write("db/other.env", "TAG=16")
    text = """
    include: [{path: [db/compose.yaml], env_file: db/other.env, project_directory: db}]
    services: {web: {image: a}}
    """
    assert project.load(text).spec.services["db"].image == "pg:16"
    assert project.load(text, environment={"TAG": "17"}).spec.services["db"].image == "pg:17"


def test_an_included_service_is_changed_by_an_override_in_the_include(project: Project) -> None:
    project.write("db.yaml", "services: {db: {image: a, user: x}}")
    project.write("over.yaml", "services: {db: {image: b}}")
    db = project.load("include: [{path: [db.yaml, over.yaml]}]\nservices: {web: {image: a}}").spec.services["db"]
    assert (db.image, db.user) == ("b", "x")


def test_the_same_file_may_be_included_twice(project: Project) -> None:
    project.write("db.yaml", "services: {db: {image: a}}")
    project.write("one.yaml", "include: [db.yaml]\nservices: {one: {image: a}}")
    project.write("two.yaml", "include: [db.yaml]\nservices: {two: {image: a}}")
    assert set(project.load("include: [one.yaml, two.yaml]\n").spec.services) == {"db", "one", "two"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "include: [db.yaml]\nservices:\n  db: {image: b}\n",
            "services.db: is also defined by an included file, in db.yaml:1 (compose.yaml:3)",
        ),
        ("include: [odd.yaml]\n", "servicez: unknown key (odd.yaml:2)"),
        ("include: [own.yaml]\n", "x-wye: means nothing here (own.yaml:2)"),
        ("include: [none.yaml]\n", "none.yaml is not there (compose.yaml:1)"),
        ("include: [compose.yaml]\n", "includes more than 8 levels deep"),
        ("include: [{paths: x}]\n", "include[0].paths: unknown key (compose.yaml:1)"),
        ("include: [{env_file: x}]\n", 'include[0]: "path" is missing (compose.yaml:1)'),
        ("include: [{path: []}]\n", "include[0]: names no file (compose.yaml:1)"),
        ("include: db.yaml\n", "include: must be a list, not a string (compose.yaml:1)"),
    ],
)
def test_what_cannot_be_included(project: Project, text: str, message: str) -> None:
    project.write("db.yaml", "services: {db: {image: a}}")
    project.write("odd.yaml", "services: {x: {image: a}}\nservicez: {}\n")
    project.write("own.yaml", "services: {x: {image: a}}\nx-wye: {fork: {egress: true}}\n")
    assert message in str(project.error(text))


def test_a_fan_of_includes_is_limited(project: Project) -> None:
    project.write("leaf.yaml", "services: {leaf: {image: a}}")
    project.write("fan.yaml", "include:\n" + "  - leaf.yaml\n" * 60)
    assert "more than 100 files" in str(project.error("include: [fan.yaml, fan.yaml]\n"))
