"""wye is git for running production: fork a whole live environment, see what changed, merge it back.

The client is imported when it is asked for: wye's own programs, some of which somebody waits for, begin here too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wye.api.client import Client, connect

__all__ = ["Client", "__version__", "connect"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in ("Client", "connect"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("wye.api.client"), name)
