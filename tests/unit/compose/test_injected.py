from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from wye.model import File

if TYPE_CHECKING:
    from conftest import Project

TOP = """
secrets:
  pass: {file: ./pass.txt}
  token: {environment: TOKEN}
  away: {external: true}
configs:
  app: {content: "url=${HOST:-h}\\n"}
  file: {file: ./pass.txt}
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def files(project: Project, body: str) -> tuple[File, ...]:
    project.write("pass.txt", "s3cret")
    return project.service(body, top=TOP, environment={"TOKEN": "t0ken"}).files


def test_short_forms_go_to_their_usual_places(project: Project) -> None:
    assert files(project, "secrets: [pass, token]\nconfigs: [app]") == (
        File(name="pass", target="/run/secrets/pass", content=encoded("s3cret"), secret=True),
        File(name="token", target="/run/secrets/token", content=encoded("t0ken"), secret=True),
        File(name="app", target="/app", content=encoded("url=h\n")),
    )


def test_long_forms(project: Project) -> None:
    body = """
    secrets:
      - {source: pass, target: other, uid: "103", gid: "104", mode: 0440}
      - {source: pass, target: /etc/pass, mode: "0400"}
      - {source: token, mode: 256}
    configs:
      - {source: file, target: /etc/app.conf}
    """
    found = [(file.target, file.uid, file.gid, file.mode) for file in files(project, body)]
    assert found == [
        ("/run/secrets/other", 103, 104, 0o440),
        ("/etc/pass", 0, 0, 0o400),
        ("/run/secrets/token", 0, 0, 0o400),
        ("/etc/app.conf", 0, 0, 0o444),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "secrets: [away]",
            "secrets.away.external: the secret is kept outside, where wye cannot read it (compose.yaml:9)",
        ),
        ("secrets: [non]", "services.web.secrets[0]: there is no secret non (compose.yaml:4)"),
        ("configs: [pass]", "services.web.configs[0]: there is no config pass (compose.yaml:4)"),
        ("secrets: [{target: x}]", 'services.web.secrets[0]: "source" is missing (compose.yaml:4)'),
        ("secrets: [{source: pass, uid: 5}]", "services.web.secrets[0].uid: must be a string, not an integer"),
        ("secrets: [{source: pass, mode: '999'}]", 'services.web.secrets[0].mode: "999" is not a file mode'),
        ("secrets: [{source: pass, target: ../x}]", 'services.web.secrets[0].target: must not contain ".."'),
        ("secrets: [token]", "secrets.token.environment: the variable TOKEN is not set (compose.yaml:8)"),
        ("secrets: [pass]", "secrets.pass.file: the file {directory}/./pass.txt is not there (compose.yaml:7)"),
        ("configs: [app, {source: app, target: /app}]", "services.web.configs[1]: a second file at /app"),
    ],
)
def test_what_cannot_be_injected(project: Project, body: str, message: str) -> None:
    assert message.replace("/./", "/").format(directory=project.directory) in str(project.refusal(body, top=TOP))


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("{file: x, environment: Y}", "secrets.s: needs exactly one of file, environment (compose.yaml:6)"),
        ("{}", "secrets.s: needs exactly one of file, environment (compose.yaml:6)"),
        ("{content: x}", "secrets.s.content: a secret has no content (compose.yaml:6)"),
        ("{fil: x}", "secrets.s.fil: unknown key (compose.yaml:6)"),
        ("{file: /etc/shadow}", "secrets.s.file: /etc/shadow belongs to the machine itself (compose.yaml:6)"),
        ("{file: link}", "secrets.s.file: /etc/shadow belongs to the machine itself (compose.yaml:6)"),
    ],
)
def test_definitions_that_cannot_be_used(project: Project, definition: str, message: str) -> None:
    (project.directory / "link").symlink_to("/etc/shadow")
    assert str(project.refusal("secrets: [s]", top=f"secrets:\n  s: {definition}\n")) == message


def test_what_nobody_uses_is_not_read(project: Project) -> None:
    assert project.service("user: a", top=TOP).files == ()
