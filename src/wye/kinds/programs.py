"""Which programs an image has. Its files are anybody's: links in it lead to places in it."""

from __future__ import annotations

import os
from pathlib import Path

from wye.host import Host


def has_program(host: Host, rootfs: Path, search_path: str, name: str) -> bool:
    """Whether a process of the image at `rootfs` would find `name` along `search_path` (as PATH)."""
    for directory in search_path.split(":"):
        try:
            os.close(host.open_inside(rootfs, f"{directory}/{name}", os.O_PATH))
        except OSError:
            continue
        return True
    return False
