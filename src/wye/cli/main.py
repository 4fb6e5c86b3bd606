"""The command line's entry.

Most commands are over in less time than it takes to import what they are made of, and a third of that time goes into
looking for garbage: again and again while classes and functions are made, all of which stay, and once more at the end.
So it is looked for rarely, which is enough for commands that follow something for days, and at the end not at all.
"""

from __future__ import annotations

import gc
import importlib

_OBJECTS = 100_000
"""So many are made before it is looked for garbage among them."""


def main() -> None:
    gc.set_threshold(_OBJECTS)
    try:
        importlib.import_module("wye.cli.commands").run()
    finally:
        gc.freeze()
