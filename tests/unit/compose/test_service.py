"""Every key of a service, in its short and long forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from wye.compose.keys import HARMLESS, IDLE, REFUSED, SERVICE
from wye.compose.load import Loaded
from wye.model import Healthcheck, Limits, Restart, RestartPolicy

if TYPE_CHECKING:
    from conftest import Oracle, Project

Messages = Callable[[Loaded], list[str]]


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ("command: nginx -g 'daemon off;'", "command", ("nginx", "-g", "daemon off;")),
        ("command: [a, 'b c']", "command", ("a", "b c")),
        ("command: []", "command", ()),
        ("command: ''", "command", ()),
        ("command:", "command", None),
        ("command: echo $$HOME", "command", ("echo", "$HOME")),
        ("entrypoint: /run.sh --flag", "entrypoint", ("/run.sh", "--flag")),
        ("entrypoint: [sh, -c, 'a && b']", "entrypoint", ("sh", "-c", "a && b")),
        ("environment: {A: 1, B: true, C: x, D: 0.10, E: '', F: 010}", "environment",
         {"A": "1", "B": "true", "C": "x", "D": "0.10", "E": "", "F": "010"}),
        ("environment: [A=1, B=x=y, C=]", "environment", {"A": "1", "B": "x=y", "C": ""}),
        ("environment: {GIVEN: , NONE: }", "environment", {"GIVEN": "yes"}),
        ("environment: [GIVEN, NONE]", "environment", {"GIVEN": "yes"}),
        ("working_dir: /app", "working_dir", "/app"),
        ("user: '1000:1000'", "user", "1000:1000"),
        ("group_add: [docker, 999]", "group_add", ("docker", "999")),
        ("hostname: h.example.com", "hostname", "h.example.com"),
        ("container_name: my_web", "aliases", ("my_web",)),
        ("labels: {a: 1, b: true, c: }", "labels", {"a": "1", "b": "true", "c": ""}),
        ("labels: [a=1, b]", "labels", {"a": "1", "b": ""}),
        ("platform: linux/amd64", "platform", "linux/amd64"),
        ("pull_policy: always", "pull_policy", "always"),
        ("pull_policy: if_not_present", "pull_policy", "missing"),
        ("restart: 'no'", "restart", Restart()),
        ("restart: no", "restart", Restart()),
        ("restart: always", "restart", Restart(policy=RestartPolicy.ALWAYS)),
        ("restart: unless-stopped", "restart", Restart(policy=RestartPolicy.UNLESS_STOPPED)),
        ("restart: on-failure:5", "restart", Restart(policy=RestartPolicy.ON_FAILURE, max_retries=5)),
        ("deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 2m}}", "restart",
         Restart(policy=RestartPolicy.ON_FAILURE, max_retries=3, delay_s=5, window_s=120)),
        ("deploy: {restart_policy: {condition: none}}\nrestart: always", "restart", Restart()),
        ("deploy: {restart_policy: {}}", "restart", Restart(policy=RestartPolicy.ALWAYS)),
        ("deploy: {resources: {limits: {cpus: '0.5', memory: 512M, pids: 100}}}", "limits",
         Limits(cpus=0.5, memory_bytes=512 << 20, pids=100)),
        ("cpus: 1.5\nmem_limit: 1g\npids_limit: 10\nshm_size: 64m", "limits",
         Limits(cpus=1.5, memory_bytes=1 << 30, pids=10, shm_bytes=64 << 20)),
        ("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 1024m}}}", "limits", Limits(memory_bytes=1 << 30)),
        ("cpus: 0\nmem_limit: 0\npids_limit: -1", "limits", Limits()),
        ("deploy:", "limits", Limits()),
        ("deploy: {replicas: 3}", "replicas", 3),
        ("scale: 2", "replicas", 2),
        ("scale: 2\ndeploy: {replicas: '2'}", "replicas", 2),
        ("deploy: {mode: global}", "replicas", 1),
        ("stop_signal: SIGINT", "stop_signal", "SIGINT"),
        ("stop_signal: quit", "stop_signal", "SIGQUIT"),
        ("stop_signal: SIGRTMIN+3", "stop_signal", "SIGRTMIN+3"),
        ("stop_signal: '9'", "stop_signal", "9"),
        ("stop_grace_period: 1m30s", "stop_grace_s", 90.0),
        ("init: true", "init", True),
        ("tty: 'true'", "tty", True),
        ("stdin_open: true", "stdin_open", True),
        ("read_only: true", "read_only", True),
        ("cap_add: [NET_ADMIN, cap_sys_ptrace, ALL]", "cap_add", ("NET_ADMIN", "SYS_PTRACE", "ALL")),
        ("cap_drop: [ALL]", "cap_drop", ("ALL",)),
        ("security_opt: ['no-new-privileges:false']", "no_new_privileges", False),
        ("security_opt: ['no-new-privileges=true']", "no_new_privileges", True),
        ("security_opt: [no-new-privileges]", "no_new_privileges", True),
        ("sysctls: {net.core.somaxconn: 1024}", "sysctls", {"net.core.somaxconn": "1024"}),
        ("sysctls: [net.core.somaxconn=1024]", "sysctls", {"net.core.somaxconn": "1024"}),
        ("ulimits: {nproc: 65535, nofile: {soft: 1, hard: 2}, core: -1}", "ulimits",
         {"nproc": (65535, 65535), "nofile": (1, 2), "core": (-1, -1)}),
        ("extra_hosts: ['a:10.0.0.1', 'b=10.0.0.2', 'c:::1', 'd:[::1]']", "extra_hosts",
         (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "::1"), ("d", "::1"))),
        ("extra_hosts: {a: 10.0.0.1, b: [10.0.0.2, 10.0.0.3]}", "extra_hosts",
         (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("b", "10.0.0.3"))),
        ("dns: 1.1.1.1", "dns", ("1.1.1.1",)),
        ("dns: [1.1.1.1, '::1']", "dns", ("1.1.1.1", "::1")),
        ("network_mode: none", "network_mode", "none"),
        ("healthcheck: {test: curl -f localhost}", "healthcheck", Healthcheck(test=("/bin/sh", "-c",
         "curl -f localhost"))),
        ("healthcheck: {test: [CMD, curl, -f]}", "healthcheck", Healthcheck(test=("curl", "-f"))),
        ("healthcheck: {test: [CMD-SHELL, 'a || b']}", "healthcheck", Healthcheck(test=("/bin/sh", "-c", "a || b"))),
        ("healthcheck: {test: [NONE]}", "healthcheck", Healthcheck(test=())),
        ("healthcheck: {disable: true}", "healthcheck", Healthcheck(test=())),
        ("healthcheck: {disable: false}", "healthcheck", None),
        ("healthcheck: {test: x, disable: true}", "healthcheck", Healthcheck(test=())),
        ("healthcheck: {test: [CMD, x], interval: 1m, timeout: 2s, retries: 5, start_period: 3s, start_interval: 1s}",
         "healthcheck",
         Healthcheck(test=("x",), interval_s=60, timeout_s=2, retries=5, start_period_s=3, start_interval_s=1)),
        ("logging: {driver: json-file, options: {max-size: 1m}}", "labels", {}),
        ("x-anything: {goes: [here]}", "labels", {}),
    ],
)  # fmt: skip
def test_a_key(project: Project, body: str, field: str, value: Any) -> None:
    assert getattr(project.service(body, environment={"GIVEN": "yes"}), field) == value


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("portz: []", "portz: unknown key", "did you mean ports?"),
        ("depend_on: []", "depend_on: unknown key", "did you mean depends_on?"),
        ("zzz: 1", "zzz: unknown key", None),
        ("x-wye: {egres: true}", "x-wye.egres: unknown key", "did you mean egress?"),
        ("ports:", "ports: has no value", "give it one, or remove the key"),
        ("command: it's", "command: cannot be split into words: no closing quotation", "write it as a list"),
        ("command: 5", "command: must be a list, not an integer", None),
        ("command: [a, 5]", "command[1]: must be a string, not an integer", "put it in quotes"),
        ("user: 1000", "user: must be a string, not an integer", "put it in quotes"),
        ("working_dir: app", 'working_dir: "app" is not an absolute path', None),
        ("hostname: a b", 'hostname: "a b" is not a host name', None),
        ("environment: [=x]", "environment[0]: has no name before the =", None),
        ("environment: [{A: 1}]", "environment[0]: must be a string, not a mapping", None),
        ("environment: {A: [1]}", "environment.A: must be a string or a number, not a list", None),
        ("environment: A=1", 'environment: must be a mapping or a list of "KEY=VALUE", not a string', None),
        ("pull_policy: sometimes", 'pull_policy: "sometimes" is not a pull policy', "always, missing, never or build"),
        ("restart: sometimes", 'restart: "sometimes" is not a restart policy', ...),
        ("restart: false", "restart: must be a string, not a boolean", "put it in quotes"),
        ("restart: always:3", 'restart: "always:3" is not a restart policy', ...),
        ("restart: on-failure:x", 'restart: "x" is not a number of retries', None),
        ("deploy: {restart_policy: {condition: ever}}",
         'deploy.restart_policy.condition: "ever" is not none, on-failure or any', None),
        ("deploy: {resource: {}}", "deploy.resource: unknown key", "did you mean resources?"),
        ("deploy: {mode: replicated-job}", 'deploy.mode: the mode "replicated-job" is not supported', ...),
        ("deploy: {replicas: 0}", "deploy.replicas: must be at least 1", ...),
        ("deploy: {replicas: 1000}", "deploy.replicas: must be at most 100, not 1000", None),
        ("deploy: {replicas: 2}\nscale: 3", "scale: scale and deploy.replicas differ", ...),
        ("deploy: {resources: {limits: {cpus: many}}}", 'deploy.resources.limits.cpus: must be a number, not "many"',
         None),
        ("deploy: {resources: {limits: {cpus: -1}}}", "deploy.resources.limits.cpus: -1 processors do not make sense",
         None),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
         "deploy.resources.reservations.devices: a fork gets no devices of the machine", None),
        ("mem_limit: lots", 'mem_limit: "lots" is not a size; write it like 512m or 1.5g', None),
        ("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}",
         "mem_limit: differs from services.web.deploy.resources.limits.memory", "give only one of them"),
        ("pids_limit: 1.5", 'pids_limit: must be an integer, not "1.5"', None),
        ("stop_signal: SIGNOPE", 'stop_signal: "SIGNOPE" is not a signal', "write it like SIGTERM"),
        ("stop_grace_period: 10", "stop_grace_period: must be a string, not an integer", "put it in quotes"),
        ("stop_grace_period: soon", 'stop_grace_period: "soon" is not a duration; write it like 1m30s or 500ms', None),
        ("init: maybe", 'init: must be true or false, not "maybe"', None),
        ("init: 1", "init: must be true or false, not an integer", None),
        ("cap_add: [net admin]", 'cap_add[0]: "net admin" is not a capability', ...),
        ("cap_add: NET_ADMIN", "cap_add: must be a list, not a string", None),
        ("security_opt: ['no-new-privileges:perhaps']", 'security_opt[0]: "perhaps" is not true or false', None),
        ("ulimits: {nofile: {soft: 2, hard: 1}}", "ulimits.nofile: the soft limit 2 is above the hard limit 1", None),
        ("ulimits: {nofile: {soft: 2}}", 'ulimits.nofile: "hard" is missing', None),
        ("ulimits: {NOFILE: 1}", 'ulimits.NOFILE: "NOFILE" is not a limit', "write it like nofile"),
        ("extra_hosts: [a]", 'extra_hosts[0]: "a" is not HOST=ADDRESS', None),
        ("extra_hosts: ['a:b']", 'extra_hosts[0]: "b" is not an IP address', None),
        ("dns: example.com", 'dns: "example.com" is not an IP address', None),
        ("network_mode: host",
         'network_mode: the network mode "host" would let the service out of its environment',
         "publish its ports instead"),
        ("network_mode: container:x",
         'network_mode: the network mode "container:x" would let the service out of its environment', ...),
        ("healthcheck: {test: []}", "healthcheck.test: is not a healthcheck", ...),
        ("healthcheck: {test: [curl]}", "healthcheck.test: is not a healthcheck", ...),
        ("healthcheck: {tests: x}", "healthcheck.tests: unknown key", "did you mean test?"),
        ("healthcheck: {test: x, interval: 5}", "healthcheck.interval: must be a string, not an integer",
         "put it in quotes"),
        ("healthcheck: {test: x, retries: many}", 'healthcheck.retries: must be an integer, not "many"', None),
        ("image: 'Postgres:16'", 'image: "Postgres:16" is not an image reference', "repositories are in lower case"),
        ("image: https://x/y", 'image: "https://x/y" is not an image reference', "leave out the scheme"),
        ("image: 'a b'", 'image: "a b" is not an image reference', ...),
        ("image: a:b:c", 'image: "a:b:c" is not an image reference', ...),
        ("image: ''", "image: must not be empty", None),
        ("privileged: true", "privileged: would let the service out of its environment",
         "name the capabilities it needs in cap_add"),
        ("devices: [/dev/fuse]", "devices: would let the service out of its environment", ...),
        ("pid: host", "pid: would let the service out of its environment", None),
        ("ipc: host", "ipc: would share memory with what is outside of the service", None),
        ("userns_mode: host", "userns_mode: would let the service out of its environment", None),
        ("cgroup_parent: x", "cgroup_parent: would let the service out of its environment", None),
        ("gpus: all", "gpus: would let the service out of its environment", None),
        ("post_start: [{command: x}]", "post_start: is not supported", ...),
        ("external_links: [x]", "external_links: names containers that are outside of the environment", None),
        ("build: https://github.com/x/y.git", "build: builds from elsewhere are not supported", ...),
        ("build: ./none", "build: the directory {directory}/none is not there", ...),
        ("build: {context: ., dockerfile_inline: FROM x}", "build.dockerfile_inline: is not supported", None),
        ("build: /etc", "build: /etc belongs to the machine itself and cannot be built from", None),
    ],
)  # fmt: skip
def test_what_is_refused(project: Project, body: str, message: str, hint: Any) -> None:
    text = project.text(body) if "image:" not in body else f"services:\n  web:\n    restart: always\n    {body}\n"
    error = project.error(text)
    lines = text.splitlines()
    key = error.key.rsplit(".", 1)[-1].split("[")[0]
    assert str(error) == f"services.web.{message.format(directory=project.directory)} (compose.yaml:{error.line})"
    assert key in lines[error.line - 1]
    if hint is not ...:
        assert error.hint == hint
    else:
        assert error.hint


@pytest.mark.parametrize(
    "body",
    [
        "privileged: false", "devices: []", "ipc: private", "ipc: shareable", "cgroup: private", "pid:",
        "external_links: []", "use_api_socket: false",
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_fine(project: Project, body: str, messages: Messages) -> None:
    assert messages(project.load(project.text(body))) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("mem_reservation: 1g", "mem_reservation: has no effect"),
        ("cpu_shares: 100", "cpu_shares: has no effect"),
        ("dns_search: x", "dns_search: has no effect"),
        ("deploy: {placement: {constraints: [a]}}", "deploy.placement: has no effect on one machine"),
        ("deploy: {endpoint_mode: vip}", "deploy.endpoint_mode: has no effect on one machine"),
        ("security_opt: ['seccomp:unconfined']", "security_opt[0]: has no effect; every service has wye's own profile"),
        ("pull_policy: daily", 'pull_policy: "daily" is taken as missing'),
        ("network_mode: bridge", "network_mode: has no effect; the service is in the environment's private network"),
        ("extra_hosts: ['h:host-gateway']",
         "extra_hosts[0]: the machine itself cannot be reached from an environment; left out"),
        ("healthcheck: {interval: 5s}", "healthcheck: has no effect without a test"),
        ("tmpfs: /t:uid=5", 'tmpfs: the option "uid" has no effect'),
        ('ports: ["8000-8001:80"]', "ports[0]: of the range of host ports, 8000 is taken"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said(project: Project, body: str, message: str, messages: Messages) -> None:
    assert messages(project.load(project.text(body))) == [f"services.web.{message}"]


@pytest.mark.parametrize(
    "body", ["privileged: true", "portz: 1", "network_mode: host", "ports:", "post_start: [{command: x}]"]
)
def test_lenient_leaves_out_and_says_so(project: Project, body: str, messages: Messages) -> None:
    loaded = project.load(project.text(body), lenient=True)
    assert loaded.spec == project.load("services: {web: {image: debian}}").spec
    (message,) = messages(loaded)
    assert message.endswith("; left out")
    assert loaded.notices[0].line == 4


def test_build(project: Project) -> None:
    project.write("app/requirements.txt")
    project.write("app/Dockerfile")
    project.write("docker/Dockerfile")
    project.write("both/Dockerfile.dev")
    text = """
    services:
      short: {build: app}
      found: {build: ./docker}
      given: {build: {context: app, dockerfile: Dockerfile, target: t, args: {A: 1, B: , C: }}}
      named: {image: "me/x:1", build: {context: both, dockerfile: Dockerfile.dev}}
      here: {build: {args: [D=1, B]}}
    """
    services = project.load(text, environment={"B": "b"}).spec.services
    builds = {name: service.build for name, service in services.items()}
    assert all(build is not None for build in builds.values())
    found = {name: (build.context, build.dockerfile) for name, build in builds.items() if build is not None}
    root = project.directory
    assert found == {
        "short": (f"{root}/app", None),
        "found": (f"{root}/docker", "Dockerfile"),
        "given": (f"{root}/app", "Dockerfile"),
        "named": (f"{root}/both", "Dockerfile.dev"),
        "here": (f"{root}", None),
    }
    assert (services["short"].image, services["named"].image) == (None, "me/x:1")
    arguments = {name: build.args for name, build in builds.items() if build is not None and build.args}
    assert arguments == {"given": {"A": "1", "B": "b"}, "here": {"D": "1", "B": "b"}}


def test_env_files(project: Project) -> None:
    project.write("one.env", "A=1\nB=1\nC=$OUTER\n")
    project.write("two.env", "B=2\nD=${A}x\n")
    project.write("raw.env", "E='$X'\n")
    body = """
    env_file:
      - one.env
      - {path: two.env}
      - {path: none.env, required: false}
      - {path: raw.env, format: raw}
    environment: {B: 3, F: f}
    """
    assert project.service(body, environment={"OUTER": "out"}).environment == {
        "A": "1", "B": "3", "C": "out", "D": "1x", "E": "'$X'", "F": "f",
    }  # fmt: skip
    assert project.service("env_file: one.env").environment == {"A": "1", "B": "1", "C": ""}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("env_file: none.env",
         "services.web.env_file: the env file {directory}/none.env is not there (compose.yaml:4)"),
        ("env_file: [{path: .}]",
         "services.web.env_file[0].path: the env file {directory} is a directory (compose.yaml:4)"),
        ("env_file: [{path: x, format: json}]",
         'services.web.env_file[0].format: "json" is not a format (compose.yaml:4)'),
        ("env_file: bad.env", "A: the ' is not closed (bad.env:2)"),
        ("env_file: /etc/shadow", "services.web.env_file: /etc/shadow belongs to the machine itself (compose.yaml:4)"),
        ("env_file: latin.env",
         "services.web.env_file: the env file {directory}/latin.env is not UTF-8 in line 2 (compose.yaml:4)"),
        ("env_file: large.env",
         "services.web.env_file: the env file {directory}/large.env is larger than 1 MiB (compose.yaml:4)"),
    ],
)  # fmt: skip
def test_env_files_that_cannot_be_read(project: Project, body: str, message: str) -> None:
    project.write("bad.env", "\nA='x\n")
    (project.directory / "latin.env").write_bytes(b"A=1\nB=\xff\n")
    (project.directory / "large.env").write_bytes(b"#" * (1 << 20) + b"\n")
    assert str(project.refusal(body)) == message.format(directory=project.directory)


@pytest.mark.parametrize(
    "reference",
    [
        "postgres", "postgres:16", "wye/postgres", "library/x_y.z-w:a.b-c", "localhost:5000/a/b:1", "ghcr.io/a/b",
        "[::1]:5000/a", "a__b", "a@sha256:" + "0" * 64, "host/a:1@sha256:" + "f" * 64, "a--b/c",
    ],
)  # fmt: skip
def test_image_references(project: Project, reference: str) -> None:
    web = project.load(f"services: {{web: {{image: '{reference}'}}}}").spec.services["web"]
    assert web.image == reference


def test_every_key_of_the_specification_is_known(oracle: Oracle) -> None:
    tables = [SERVICE, HARMLESS.keys(), IDLE.keys(), REFUSED.keys()]
    known = set().union(*tables)
    assert len(known) == sum(len(table) for table in tables), "a key is in two tables"
    assert oracle.service_keys() - {"extends"} == known


@pytest.mark.parametrize("name", ["Web", "-web", "we b", "wéb", "x" * 64, "wye-shell", "", "a/b"])
def test_names_of_services(project: Project, name: str) -> None:
    error = project.error(f"services:\n  ? '{name}'\n  : {{image: a}}\n")
    assert error.line == 2
    assert error.hint
