"""Whatever is in the file, `load` returns or raises a WyeError that says where."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wye.compose.load import Source, load
from wye.compose.nodes import ComposeError
from wye.errors import WyeError

if TYPE_CHECKING:
    from conftest import Project

SHOP = (Path(__file__).parent / "data/shop/compose.yaml").read_text()
FRAGMENTS = [
    "", " ", "  ", "\n", "-", "- ", ":", ": ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!reset ", "!override ",
    "!!int ", "'",
    '"', "|\n", "#", "$", "${", "${A", "${A:-", "${A:?x}", "$$", "}", "~", "null", "true", "no", "0", "-1", "1e999",
    "9" * 40,
    "0x", ".nan", "2001-01-01", "../", "/", "/proc", "~", "~/x", "./.", "service:web", "host", "x-wye", "x-", "\\",
    "\t", "ü",
    "\u2028", "\x7f", "80:80", "1-99999", "[::1]:80:80", "10g", "1m30s", "a" * 5000, "/" + "a/" * 300, "...", "---",
    "include: [compose.yaml]", "extends: web", "? ",
]  # fmt: skip
FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def survives(project: Project, content: bytes, **source: Any) -> None:
    (project.directory / "compose.yaml").write_bytes(content)
    for lenient in (False, True):
        caught = error_of(Source(directory=project.directory, **source), lenient=lenient)
        if isinstance(caught, ComposeError):
            assert caught.line >= 1
            assert f":{caught.line})" in str(caught)
        assert caught is None or caught.message


def error_of(source: Source, *, lenient: bool) -> WyeError | None:
    try:
        load(source, lenient=lenient)
    except WyeError as error:
        return error
    return None


@FUZZ
@given(st.binary(max_size=200))
def test_bytes(project: Project, content: bytes) -> None:
    survives(project, content)


@FUZZ
@given(st.lists(st.sampled_from([*FRAGMENTS, "services:", "web:", "image", "volumes", "a"]), max_size=30).map("".join))
def test_fragments(project: Project, text: str) -> None:
    survives(project, text.encode())


@FUZZ
@given(seed=st.integers(0, 1 << 32), changes=st.integers(1, 4))
def test_damaged_files(project: Project, seed: int, changes: int) -> None:
    """A good file with fragments put in, or pieces moved and cut out."""
    chance = random.Random(seed)
    text = SHOP
    for _ in range(changes):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 0, 1, 5, 40]))
        piece = chance.choice([chance.choice(FRAGMENTS), text[start:end], ""])
        place = chance.randrange(len(text) + 1)
        text = text[:start] + text[end:] if chance.random() < 0.3 else text[:place] + piece + text[place:]
    survives(project, text.encode(errors="surrogatepass"), environment={"POSTGRES_PASSWORD": "p", "HOME": "/nowhere"})


KEYS = st.sampled_from([
    "image", "build", "command", "ports", "volumes", "environment", "env_file", "depends_on", "deploy", "resources",
    "limits", "healthcheck", "test", "networks", "aliases", "secrets", "configs", "extends", "file", "service",
    "include",
    "path", "target", "source", "type", "x-wye", "fork", "disk", "restart", "links", "volumes_from", "network_mode",
    "ulimits", "tmpfs", "labels", "external", "name", "context", "args", "web", "db", "extra_hosts", "profiles",
    "scale",
])  # fmt: skip
TEXTS = st.sampled_from([
    "web", "db", "80:80", "/x", "./x", "data:/x:ro", "1g", "5s", "always", "bind", "volume", "tmpfs", "A=1", "a=b=c",
    "CMD",
    "${A}", "service:db", "other.yaml", "compose.yaml", "service_healthy", ":", "/", "..", "",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@FUZZ
@given(
    st.dictionaries(KEYS | st.just("services"), st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=4), VALUES
)
def test_documents_of_any_shape(project: Project, top: dict[str, Any], service: Any) -> None:
    """JSON is YAML: any tree of known keys and likely values, below a service and elsewhere."""
    document = {"services": {"web": {"image": "a"}, "db": service}, **top}
    survives(project, as_yaml(document).encode(errors="surrogatepass"))


def as_yaml(value: Any) -> str:
    """Flow style, so that every text can be quoted and nothing depends on a writer's choices."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {as_yaml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "~" if value is None else str(value).lower()


@FUZZ
@given(st.text(max_size=80), st.text(max_size=80))
def test_env_files_and_overrides(project: Project, dotenv: str, override: str) -> None:
    (project.directory / ".env").write_bytes(dotenv.encode(errors="surrogatepass"))
    (project.directory / "compose.override.yaml").write_bytes(override.encode(errors="surrogatepass"))
    survives(project, b"services: {web: {image: a, environment: [A], user: '${A:-x}'}}")
