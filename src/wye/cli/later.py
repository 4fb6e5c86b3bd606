"""Modules of the command line that draw, imported when something of them is first used.

What draws for people imports rich, which takes as long as many a verb. A command names such a module here and not among
its imports: so its request is on the way first (`session` has them imported while the daemon works), and with `--json`
none is imported at all.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> None:
        importlib.import_module(self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def later(name: str) -> Any:
    """`wye.cli.NAME`, as far as its functions and values go. Calling it imports it."""
    return _Later(f"wye.cli.{name}")
