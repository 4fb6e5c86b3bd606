"""The room's door: which files, which variables, which name, and how errors and notices look."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wye.compose.load import Loaded, Notice, Source, load
from wye.compose.nodes import ComposeError
from wye.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from conftest import Project

Messages = Callable[[Loaded], list[str]]
ONE = "services: {web: {image: 'a:${TAG-none}'}}"


def image(loaded: Loaded) -> str | None:
    return loaded.spec.services["web"].image


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"])
def test_usual_names_are_found(project: Project, name: str) -> None:
    project.write(name, ONE)
    assert image(project.load()) == "a:none"


def test_the_newest_name_wins_and_the_others_are_mentioned(project: Project, messages: Messages) -> None:
    project.write("docker-compose.yml", "services: {old: {image: a}}")
    loaded = project.load(ONE)
    assert set(loaded.spec.services) == {"web"}
    assert messages(loaded) == ["compose.yaml: is used; docker-compose.yml in the same directory is not"]


def test_no_compose_file(project: Project) -> None:
    with pytest.raises(NotFound, match="there is no compose file in") as caught:
        project.load()
    assert caught.value.hint


def test_named_files_are_taken_instead(project: Project) -> None:
    project.write("compose.yaml", "not: [valid")
    project.write("a.yaml", ONE)
    project.write("b.yaml", "services: {web: {image: b}}")
    assert image(project.load(files=(Path("a.yaml"), project.directory / "b.yaml"))) == "b"
    assert image(project.load(environment={"COMPOSE_FILE": "a.yaml:b.yaml"})) == "b"


def test_a_named_file_that_is_missing(project: Project) -> None:
    assert "no.yaml is not there (no.yaml:1)" in str(project.error(files=(Path("no.yaml"),)))


def test_the_shell_wins_over_dotenv(project: Project) -> None:
    project.write(".env", "TAG=file\n")
    assert image(project.load(ONE)) == "a:file"
    assert image(project.load(ONE, environment={"TAG": "shell"})) == "a:shell"
    project.write("other.env", "TAG=other\n")
    assert image(project.load(ONE, env_file=Path("other.env"))) == "a:other"


def test_a_named_env_file_must_be_there(project: Project) -> None:
    assert "no.env is not there (no.env:1)" in str(project.error(ONE, env_file=Path("no.env")))


def test_the_processes_own_environment_is_not_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAG", "process")
    assert image(project.load(ONE)) == "a:none"


def test_what_is_no_text_in_the_shell_counts_as_not_set(project: Project) -> None:
    assert image(project.load(ONE, environment={"TAG": os.fsdecode(b"\xff"), "X": "\0"})) == "a:none"


def test_missing_variables_are_mentioned_once_with_their_place(project: Project) -> None:
    loaded = project.load("services:\n  web:\n    image: a\n    user: x$GONE\n    hostname: y${GONE}\n")
    assert loaded.notices == (
        Notice(
            kind="warning",
            key="services.web.user",
            message="the variable GONE is not set; it is empty",
            file="compose.yaml",
            line=4,
        ),
    )


def test_a_required_variable_stops_with_its_text(project: Project) -> None:
    error = project.error("services:\n  web:\n    image: a:${TAG:?give a tag}\n")
    assert str(error) == "services.web.image: the variable TAG is not set: give a tag (compose.yaml:3)"
    assert error.hint == "set it in the shell or in .env: TAG=..."
    assert (error.key, error.file, error.line) == ("services.web.image", "compose.yaml", 3)
    assert isinstance(error, BadRequest)


def test_variables_are_typed_after_they_are_put_in(project: Project) -> None:
    web = project.service(
        "init: ${YES}\nscale: ${TWO}\nmem_limit: ${MEM}\nports: ['${TWO}:80']\nstop_grace_period: ${TWO}s",
        environment={"YES": "true", "TWO": "2", "MEM": "1g"},
    )
    assert (web.init, web.replicas, web.limits.memory_bytes, web.ports[0].host) == (True, 2, 1 << 30, 2)
    assert web.stop_grace_s == 2


def test_a_variable_cannot_change_the_structure(project: Project) -> None:
    web = project.service("labels: {a: '${X}'}", environment={"X": "1, b: [2]\nc: 3"})
    assert web.labels == {"a": "1, b: [2]\nc: 3"}


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("", {}, "shop"),
        ("name: other\n", {}, "other"),
        ("name: ${N:-x}\n", {"environment": {"N": "n"}}, "n"),
        ("name: other\n", {"environment": {"COMPOSE_PROJECT_NAME": "env"}}, "env"),
        ("name: other\n", {"project": "mine", "environment": {"COMPOSE_PROJECT_NAME": "env"}}, "mine"),
    ],
)
def test_the_projects_name(project: Project, text: str, source: dict[str, object], name: str) -> None:
    loaded = project.load(text + "services: {web: {image: a, hostname: 'h-$COMPOSE_PROJECT_NAME'}}", **source)
    assert (loaded.spec.project, loaded.spec.services["web"].hostname) == (name, f"h-{name}")


@pytest.mark.parametrize(
    ("directory", "name"), [("My Shop!", "my-shop"), ("_x_", "x"), ("ü", "project"), ("a" * 80, "a" * 63)]
)
def test_a_directorys_name_is_made_valid(tmp_path: Path, directory: str, name: str) -> None:
    root = tmp_path / directory
    root.mkdir()
    (root / "compose.yaml").write_text(ONE)
    assert load(Source(directory=root)).spec.project == name


def test_a_name_that_was_given_must_be_valid(project: Project) -> None:
    error = project.error("name: My Shop\nservices: {web: {image: a}}")
    assert (str(error), error.hint) == ('name: "My Shop" cannot name a project (compose.yaml:1)', "write my-shop")
    with pytest.raises(BadRequest, match='"a/b" cannot name a project'):
        project.load(ONE, project="a/b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the compose file is empty (compose.yaml:1)"),
        ("# only this\n", "the compose file is empty (compose.yaml:1)"),
        ("- a\n", "a compose file must be a mapping (compose.yaml:1)"),
        ("just text\n", "a compose file must be a mapping (compose.yaml:1)"),
        ("x-a: 1\n", "there are no services (compose.yaml:1)"),
        ("services: {}\n", "services: there are no services (compose.yaml:1)"),
        ("services:\n", "services: has no value (compose.yaml:1)"),
        ("services: [a]\n", "services: must be a mapping (compose.yaml:1)"),
        ("services:\n  web:\n", "services.web: must be a mapping, not null (compose.yaml:2)"),
        ("services: {web: {image: a}}\nservice: {}\n", "service: unknown key (compose.yaml:2)"),
        ("services: {web: {image: a}}\nmodels: {m: {model: x}}\n", "models: is not supported (compose.yaml:2)"),
        ("services: {web: {image: [a}}\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_project(project: Project, text: str, message: str) -> None:
    assert message in str(project.error(text))


def test_a_file_may_be_neither_huge_nor_binary(project: Project) -> None:
    path = project.directory / "compose.yaml"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert "is larger than 1 MiB" in str(project.error())
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert "is not UTF-8 in line 2" in str(project.error())
    path.write_bytes(b"a: \0\n")
    assert "has a NUL character in it" in str(project.error())
    path.unlink()
    path.mkdir()
    assert "is a directory" in str(project.error())
    path.rmdir()
    os.mkfifo(path)
    assert "is not a regular file" in str(project.error())


def test_a_byte_order_mark_is_no_content(project: Project) -> None:
    (project.directory / "compose.yaml").write_text("\ufeff" + ONE)
    assert image(project.load()) == "a:none"


def test_the_version_is_ignored(project: Project) -> None:
    assert project.load("version: 3.8\n" + ONE, judged=False).notices == ()


def test_extensions_are_accepted_everywhere(project: Project) -> None:
    text = """
    x-top: {a: 1}
    services:
      web: {image: a, x-s: 1, healthcheck: {test: x, x-h: 1}, deploy: {x-d: 1}, ports: [{target: 80}]}
    networks: {n: {x-n: 1}}
    volumes: {v: {x-v: 1}}
    """
    assert project.load(text).notices == ()


def test_a_service_may_be_named_like_an_extension_and_a_template_may_stand_among_services(project: Project) -> None:
    loaded = project.load("services:\n  x-base: &b {restart: always}\n  x-ray: {<<: *b, image: a}\n", judged=False)
    assert set(loaded.spec.services) == {"x-ray"}


def test_lenient_goes_on_without_what_it_does_not_know(project: Project, messages: Messages) -> None:
    text = "services: {web: {image: a, portz: 1, healthcheck: {tests: x}}}\nservicez: {}\nx-wye: {frk: 1}\n"
    loaded = project.load(text, lenient=True)
    assert sorted(messages(loaded)) == [
        "services.web.healthcheck.tests: unknown key; left out",
        "services.web.portz: unknown key; left out",
        "servicez: unknown key; left out",
        "x-wye.frk: unknown key; left out",
    ]
    assert str(loaded.notices[0]) == "servicez: unknown key; left out (compose.yaml:2)"


def test_equal_files_give_equal_specs(project: Project) -> None:
    one = project.load("services: {a: {image: x, environment: [A=1, B=2]}, b: {image: y}}").spec
    two = project.load("services: {b: {image: y}, a: {environment: {B: 2, A: 1}, image: x}}").spec
    assert one == two


def test_errors_are_bad_requests_with_a_code(project: Project) -> None:
    error = project.error("services: 5")
    assert isinstance(error, ComposeError)
    assert (error.code, error.exit_code, error.http_status) == ("bad_compose", 2, 400)
