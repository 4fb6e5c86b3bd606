"""What differs between two directories, told as the real pool tells it of two snapshots.

The pool asks btrfs, and judges what that names; here both trees are walked whole, and judged by the same code.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path

from wye.drivers.btrfs import compare
from wye.drivers.btrfs.tree import Tree
from wye.host import Host
from wye.interfaces import PathChange


def differences(host: Host, base: Path, new: Path) -> list[PathChange]:
    """From `base` to `new`, by path. Raises OSError if one is no directory."""
    with ExitStack() as stack:
        trees = []
        for path in (base, new):
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            trees.append(stack.enter_context(closing(Tree(host, root))))
        return compare.walk(*trees)
