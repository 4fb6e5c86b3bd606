"""What is installed with wye is what it imports: no more, and nothing that only a developer's machine has."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

from tests.architecture.conftest import MODULES, ROOT


@cache
def imported() -> set[str]:
    """Distributions, by the names that PyPI knows them by."""
    found = {
        name.split(".")[0] for module in MODULES if not module.name.startswith("testing/") for name, _ in module.imports
    }
    places = packages_distributions()
    return {places[name][0].lower() for name in found - set(sys.stdlib_module_names) - {"wye"}}


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[><=!~ ]", line)[0].lower() for line in project["dependencies"]}
    assert declared == imported()


def test_the_lock_holds_them() -> None:
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert imported() <= locked
