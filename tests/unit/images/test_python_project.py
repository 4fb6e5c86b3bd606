"""How a directory says what it needs, and what a change of it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from wye.drivers.images.context import Context
from wye.drivers.images.python_build import Project, read_project
from wye.errors import BadRequest, Unsupported
from wye.host import Host


def project(tmp_path: Path, files: dict[str, str]) -> Project:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return read_project(Context(Host(), tmp_path))


def test_requirements_depend_on_themselves_and_what_they_include(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "requirements.txt": "-r more/a.txt\n-c c.txt\nredis\n",
            "more/a.txt": "--requirement=b.txt\n",
            "more/b.txt": "x\n",
            "c.txt": "",
            "main.py": "",
        },
    )
    assert found.files == {"requirements.txt", "more/a.txt", "more/b.txt", "c.txt"}


@pytest.mark.parametrize(
    "line", ["-e .", "./vendor/x", ".", "/x.whl", "file:///x.whl", "x @ file:///x", "--editable=.", "-r ../absent.txt"]
)
def test_requirements_that_need_the_directory_depend_on_all_of_it(tmp_path: Path, line: str) -> None:
    assert project(tmp_path, {"requirements.txt": f"redis\n{line}\n"}).files is None


def test_a_pyproject_with_static_dependencies(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\ndependencies = ["redis>=5", "a @ https://x"]\n[project.scripts]\nserve = "x:main"\n'
    found = project(tmp_path, {"pyproject.toml": text})
    assert found.install == ("--", "redis>=5", "a @ https://x")
    assert found.files == frozenset()
    assert found.command == ("/opt/venv/bin/serve",)


def test_a_pyproject_with_several_scripts_has_no_command(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n[project.scripts]\na = "x:a"\nb = "x:b"\n'
    found = project(tmp_path, {"pyproject.toml": text})
    assert (found.command, found.install) == ((), ())


def test_dynamic_dependencies_need_the_directory(tmp_path: Path) -> None:
    found = project(tmp_path, {"pyproject.toml": '[project]\nname = "x"\ndynamic = ["dependencies"]\n'})
    assert (found.install, found.files) == ((".",), None)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"main.py": ""}, "neither requirements.txt nor pyproject.toml"),
        ({"Dockerfile": "FROM x", "requirements.txt": ""}, "Dockerfile"),
        ({"pyproject.toml": "[tool.ruff]\n"}, r"no \[project\] table"),
    ],
)
def test_what_is_not_supported_says_what_is(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(Unsupported, match=words) as caught:
        project(tmp_path, files)
    assert caught.value.hint


def test_bad_toml_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not valid TOML"):
        project(tmp_path, {"pyproject.toml": "["})


def test_an_ignored_dockerfile_is_no_dockerfile(tmp_path: Path) -> None:
    found = project(tmp_path, {"Dockerfile": "", ".dockerignore": "Dockerfile", "requirements.txt": ""})
    assert found.kind == "requirements"
