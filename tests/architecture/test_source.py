"""Rules that an import graph cannot see, checked on the syntax trees. Exceptions are written here, with reasons."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "wye"
MODULES = sorted(SOURCE.rglob("*.py"))

MODULE_LINES = 400
FUNCTION_LINES = 60
BANNED_NAMES = {"utils", "util", "helpers", "common", "misc", "core", "base", "manager", "managers"}

LONG_MODULES: dict[str, str] = {
    "model.py": "the nouns belong on one page",
    "interfaces.py": "the protocols belong on one page",
}
LONG_FUNCTIONS: dict[str, str] = {}
PROGRAM_STARTERS = {"host.py": "the only door to Linux"}
ENVIRONMENT_READERS = {
    "daemon/config.py": "one frozen Config, parsed once",
    "cli/": "a command line reads its environment",
    "api/client.py": "WYE_SOCKET and WYE_TOKEN choose the daemon for the SDK too",
    "drivers/images/": "builds take on the host's proxy and CA variables",
    "testing/installations.py": "WYE_TEST_IMAGES says where tests keep what they fetched",
    "testing/running_daemon.py": "a daemon for tests inherits all but WYE_*",
}
DRIVER_IMPORTERS = {
    "daemon/main.py": "the composition root",
    "testing/containers.py": "real containers for the tests of what runs in them",
    "testing/installations.py": "other versions of servers come from where images get their packages",
    "testing/loop_pool.py": "a real pool for the tests of everything that lives in one",
    "testing/memory_volumes.py": "compares trees as the real pool does",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def excused(path: Path, exceptions: dict[str, str]) -> bool:
    return any(name_of(path) == key or (key.endswith("/") and name_of(path).startswith(key)) for key in exceptions)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "say what the module owns and guarantees, and why so"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_one_subject(path: Path) -> None:
    if excused(path, LONG_MODULES):
        return
    lines = len(path.read_text().splitlines())
    assert lines <= MODULE_LINES, f"{lines} lines: when a file grows a second subject, give it a room"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    too_long = [
        f"{function.name}: {body_lines(function)}"
        for function in functions(tree_of(path))
        if body_lines(function) > FUNCTION_LINES and f"{name_of(path)}:{function.name}" not in LONG_FUNCTIONS
    ]
    assert not too_long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_named_for_its_subject(path: Path) -> None:
    assert not BANNED_NAMES & set(path.relative_to(SOURCE).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_own_import_hides_in_a_function(path: Path) -> None:
    hidden = [
        f"{function.name}: {ast.unparse(node)}"
        for function in functions(tree_of(path))
        for node in ast.walk(function)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wye")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "wye" for alias in node.names))
    ]
    assert not hidden, "an import inside a function hides a cycle"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_programs_start_only_in_host(path: Path) -> None:
    if excused(path, PROGRAM_STARTERS):
        return
    banned = {
        "subprocess", "os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.execv", "os.execve",
        "os.execvp", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "pty.spawn", "pty.fork",
    }  # fmt: skip
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in banned]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or ""] if node.module in banned else []
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in banned]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in banned:
            found.append(ast.unparse(node))
    assert not found, "only host.py starts programs"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_environment_variables_are_read_at_the_door(path: Path) -> None:
    if excused(path, ENVIRONMENT_READERS):
        return
    found = [
        ast.unparse(node)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_drivers_are_known_only_to_the_composition_root(path: Path) -> None:
    if excused(path, DRIVER_IMPORTERS) or name_of(path).startswith("drivers/"):
        return
    found = [
        ast.unparse(node)
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wye.drivers"))
        or (isinstance(node, ast.Import) and any(alias.name.startswith("wye.drivers") for alias in node.names))
    ]
    assert not found
