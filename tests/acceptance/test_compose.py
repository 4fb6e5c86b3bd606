"""What a compose file asks for, seen from inside the containers: the keys that nearly every file uses, images from a
registry, images that are built, and what is taken in from beside the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, wait_until
from tests.host.images.conftest import Pusher, pusher, registry  # noqa: F401  fixtures
from wye.errors import CheckFailed, Unsupported
from wye.testing.tiny_rootfs import tiny_rootfs

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

KEYS = """
name: keys
x-idle: &idle
  command: ["sleep", "infinity"]
  stop_signal: SIGKILL
services:
  everything:
    image: wye/base
    platform: linux/amd64
    pull_policy: missing
    container_name: the-container
    hostname: the-host
    entrypoint: ["sh", "-c"]
    command: ["echo started as $$0; exec sleep infinity", "given"]
    working_dir: /data/below
    user: "1234:1235"
    init: true
    environment:
      OWN: "yes"
      BOTH: from environment
      CALLERS:
      DEFAULT: ${MISSING:-a default}
      KEPT: ${EMPTY-kept}
      SET: ${GIVEN:+given}
      DOLLAR: a$$b
    env_file: ["vars.env"]
    volumes: ["data:/data", "./beside:/beside:ro", "/anonymous"]
    tmpfs: ["/scratch:size=1m"]
    expose: ["9000"]
    ports: ["127.0.0.1::9000"]
    labels: {colour: green}
    logging: {driver: json-file}
    restart: unless-stopped
    stop_grace_period: 2s
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "test", "-d", "/data"], interval: 1s}
    networks: {one: {aliases: [by-alias]}}
    links: ["other:by-link"]
    secrets: [token]
    configs: [{source: settings, target: /etc/settings.conf}]
    deploy: {replicas: 1, resources: {limits: {cpus: "0.5", memory: 64M, pids: 100}}}
    depends_on: {other: {condition: service_started}}
  other:
    image: wye/base
    <<: *idle
    deploy: {replicas: 2}
    networks: [one, two]
volumes: {data: {}}
networks: {one: {}, two: {}}
secrets: {token: {file: ./token.txt}}
configs: {settings: {content: "answer = 42"}}
"""


def inside(project: Project, script: str, environment: str = "production") -> list[str]:
    done = project.sh(environment, script, "everything")
    assert done.exit_code == 0, done.stderr
    return done.text.splitlines()


def said(project: Project) -> list[str]:
    return [line.text for line in project.client.logs("production", ["everything"])]


def test_keys_that_nearly_every_file_uses(project: Project) -> None:
    directory = project.directory
    (directory / "vars.env").write_text("FILE=from file\nBOTH=from file\n")
    (directory / "token.txt").write_text("hush")
    (directory / "beside").mkdir()
    (directory / "beside" / "code").write_text("one")
    (directory / "compose.yaml").write_text(KEYS)
    told = project.client.up(directory, environment={"CALLERS": "the caller's", "EMPTY": "", "GIVEN": "x"})
    assert any(f"{directory}/beside is imported" in notice for notice in told.notices)
    names = ("OWN", "BOTH", "FILE", "CALLERS", "DEFAULT", "KEPT", "SET", "DOLLAR")
    assert inside(project, f"for each in {' '.join(names)}; do eval echo \\$$each; done") == [
        "yes", "from environment", "from file", "the caller's", "a default", "", "given", "a$b",
    ]  # fmt: skip
    assert inside(project, "hostname; pwd; id -u; id -g") == ["the-host", "/data/below", "1234", "1235"]
    assert inside(project, "cat /proc/1/comm /run/secrets/token; echo; cat /etc/settings.conf") == [
        "wye-init", "hush", "answer = 42",
    ]  # fmt: skip
    for name in ("the-container", "the-host", "by-alias", "everything", "by-link", "other"):
        assert len(inside(project, f"getent hosts {name}")) == (2 if name in ("by-link", "other") else 1), name
    assert inside(project, "cat /beside/code; touch /beside/x 2>/dev/null || echo kept") == ["onekept"]
    assert inside(project, "stat -f -c '%b %S' /scratch") == ["256 4096"]
    wait_until(lambda: said(project) == ["started as given"])
    found = project.client.environment("production")
    assert {(each.replica, each.health) for each in found.services} >= {
        ("everything", "healthy"), ("other", "none"), ("other-2", "none"),
    }  # fmt: skip
    assert [(each.container, each.host_ip) for each in found.ports] == [(9000, "127.0.0.1")]


def test_what_is_imported_is_shared_with_nobody(project: Project) -> None:
    project.directory.joinpath("beside").mkdir()
    code = project.directory / "beside" / "code"
    code.write_text("one")
    project.up(
        'services: {everything: {image: wye/base, command: ["sleep", "infinity"], stop_signal: SIGKILL, '
        'volumes: ["./beside:/beside"]}}\n'
    )
    project.fork()
    inside(project, "echo fork > /beside/code", "f")
    assert inside(project, "cat /beside/code") == ["one"]
    inside(project, "echo production > /beside/code")
    assert (code.read_text(), inside(project, "cat /beside/code", "f")) == ("one", ["fork"])


def test_an_image_of_a_registry(project: Project, pusher: Pusher, test_root: Path) -> None:  # noqa: F811
    """One that carries its own command, variables and directory, and a file that only it has."""
    busybox = (tiny_rootfs(test_root / "tiny") / "bin" / "busybox").read_bytes()
    members = [pusher.folder("bin"), pusher.folder("srv"), pusher.member("srv/hello", b"hello from the registry\n")]
    members += [pusher.member(f"bin/{name}", busybox, mode=0o755) for name in ("sh", "cat", "sleep")]
    config = {"Cmd": ["sh", "-c", "cat $WHAT; sleep 1000"], "Env": ["PATH=/bin", "WHAT=hello"], "WorkingDir": "/srv"}
    reference = pusher.push("acme/thing:1", [pusher.layer(*members)], config)
    project.up(f"services: {{everything: {{image: '{reference}', stop_signal: SIGKILL}}}}\n")
    assert inside(project, "cat $WHAT") == ["hello from the registry"]
    wait_until(lambda: said(project) == ["hello from the registry"])
    project.fork()
    assert inside(project, "cat /srv/hello", "f") == ["hello from the registry"]


BUILT = """
services:
  everything: {build: ./app, command: ["python3", "-u", "main.py"], stop_signal: SIGKILL}
  other: {image: wye/base, command: ["sleep", "infinity"], stop_signal: SIGKILL}
"""


@pytest.mark.parametrize("described", ["requirements.txt", "pyproject.toml"])
def test_a_directory_of_python_is_built_and_built_again_when_it_changes(project: Project, described: str) -> None:
    app = project.directory / "app"
    app.mkdir()
    if described == "requirements.txt":
        (app / described).write_text("")
    else:
        (app / described).write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "shop"\nversion = "1"\n'
        )
        (app / "backend.py").write_text(BACKEND)
    (app / "main.py").write_text("import time; print('one'); time.sleep(1000)")
    assert set(project.up(BUILT).changes.values()) == {"created"}
    assert inside(project, "pwd; python3 -c 'import sys; print(sys.prefix)'") == ["/app", "/opt/venv"]
    assert set(project.up(BUILT).changes.values()) == {"unchanged"}
    (app / "main.py").write_text("import time; print('two'); time.sleep(1000)")
    assert project.up(BUILT).changes == {"everything": "changed", "other": "unchanged"}
    wait_until(lambda: said(project)[-1:] == ["two"])


BACKEND = """
import zipfile
def build_editable(directory, config=None, metadata=None):
    files = {"shop-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: shop\\nVersion: 1\\n",
             "shop-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
             "shop-1.dist-info/RECORD": ""}
    with zipfile.ZipFile(directory + "/shop-1-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return "shop-1-py3-none-any.whl"
"""


def test_a_dockerfile_is_not_built_yet(project: Project) -> None:
    (project.directory / "app").mkdir()
    (project.directory / "app" / "Dockerfile").write_text("FROM debian\n")
    with pytest.raises(Unsupported, match="Dockerfile, which is not supported yet") as caught:
        project.up(BUILT)
    assert "requirements.txt" in (caught.value.hint or "")
    assert project.client.environments() == ()


def test_the_variables_of_the_official_images(project: Project) -> None:
    (project.directory / "init").mkdir()
    (project.directory / "init" / "1.sql").write_text("create table seeded as select 7 as answer;")
    compose = """
services:
  everything:
    image: wye/postgres
    environment: {POSTGRES_USER: ann, POSTGRES_PASSWORD: secret, POSTGRES_DB: books, PGDATA: /pg/data/below}
    volumes: ["db:/pg/data", "./init:/docker-entrypoint-initdb.d"]
    healthcheck: {test: "pg_isready -h 127.0.0.1 -U ann -d books", interval: 1s, retries: 60}
volumes: {db: {}}
"""
    project.up(compose)
    ask = "PGPASSWORD=secret psql -h everything -U ann books -Atc 'select answer from seeded'"
    done = project.client.exec("production", ["sh", "-c", ask])
    assert done.text == "7\n", done.stderr
    assert inside(project, "ls -d /pg/data/below/PG_VERSION") == ["/pg/data/below/PG_VERSION"]
    with pytest.raises(CheckFailed, match="POSTGRES_PASSWORD"):
        project.up("services: {everything: {image: wye/postgres}}\n")


def test_config_tells_all_of_it_and_changes_nothing(project: Project) -> None:
    (project.directory / "vars.env").write_text("")
    (project.directory / "token.txt").write_text("")
    (project.directory / "beside").mkdir()
    (project.directory / "compose.yaml").write_text(KEYS)
    told = project.client.config(project.directory, environment={})
    assert set(json.loads(json.dumps(told.spec))["services"]) == {"everything", "other"}
    assert project.client.environments() == ()
