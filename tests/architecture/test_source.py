"""Rules that an import graph cannot see, checked on the syntax trees. Exceptions are written here, with reasons."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from tests.architecture.conftest import MODULES, Module

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
    "testing/differences.py": "compares trees as the real pool does",
}


def modules(exceptions: dict[str, str]) -> Iterator[Module]:
    """All modules but those that a rule excuses, by name or by directory."""
    for module in MODULES:
        if not any(module.name == key or (key.endswith("/") and module.name.startswith(key)) for key in exceptions):
            yield module


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def none(found: Iterable[str], rule: str) -> None:
    assert not (every := dict.fromkeys(found)), "\n  ".join([rule, *every])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_source_is_there() -> None:
    assert len(MODULES) > 300, "rules over nothing hold"


def test_modules_have_a_docstring() -> None:
    without = [module.name for module in MODULES if not ast.get_docstring(module.tree)]
    none(without, "say what the module owns and guarantees, and why so")


def test_modules_have_one_subject() -> None:
    lines = [(module.name, len(module.text.splitlines())) for module in modules(LONG_MODULES)]
    long = [f"{name}: {count} lines" for name, count in lines if count > MODULE_LINES]
    none(long, "when a file grows a second subject, give it a room")


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"{module.name}:{function.name}: {body_lines(function)}"
        for module in MODULES
        for function in module.functions
        if body_lines(function) > FUNCTION_LINES and f"{module.name}:{function.name}" not in LONG_FUNCTIONS
    ]
    none(too_long, f"a function has at most {FUNCTION_LINES} lines")


def test_modules_are_named_for_their_subject() -> None:
    named = [module.name for module in MODULES if BANNED_NAMES & set(PurePath(module.name).with_suffix("").parts)]
    none(named, "a name says what is inside")


def test_no_own_import_hides_in_a_function() -> None:
    hidden = [
        f"{module.name}:{function.name}: {ast.unparse(node)}"
        for module in MODULES
        for name, node in module.imports
        if within(name, "wye")
        for function in module.functions
        if function.lineno <= node.lineno <= (function.end_lineno or 0)
    ]
    none(hidden, "an import inside a function hides a cycle")


def test_programs_start_only_in_host() -> None:
    banned = {
        "subprocess", "os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.execv", "os.execve",
        "os.execvp", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "pty.spawn", "pty.fork",
    }  # fmt: skip
    found = [
        f"{module.name}: {name}"
        for module in modules(PROGRAM_STARTERS)
        for name in [*(name for name, _ in module.imports if name in banned), *module.attributes(banned)]
    ]
    none(found, "only host.py starts programs")


def test_environment_variables_are_read_at_the_door() -> None:
    found = [
        f"{module.name}: {name}"
        for module in modules(ENVIRONMENT_READERS)
        for name in module.attributes({"os.environ", "os.getenv"})
    ]
    none(found, "configuration comes from the door")


def test_drivers_are_known_only_to_the_composition_root() -> None:
    found = [
        f"{module.name}: {ast.unparse(node)}"
        for module in modules(DRIVER_IMPORTERS | {"drivers/": "they are the drivers"})
        for name, node in module.imports
        if within(name, "wye.drivers")
    ]
    none(found, "drivers are handed in")
