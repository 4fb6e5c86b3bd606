"""Resolves or builds one image with a host that breaks somewhere. usage: resolve_or_die.py DIRECTORY FAULT WHAT"""

from __future__ import annotations

import sys
from pathlib import Path

from wye.drivers.images.store import ImageStore
from wye.interfaces import silent
from wye.model import Build
from wye.testing.faulty_host import FaultyHost

root, fault, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = ImageStore(FaultyHost.from_text(fault), directory=root / "images", cache=root / "cache")
store.open()
image = (
    store.build(Build(context=what), report=silent)
    if what.startswith("/")
    else store.resolve(what, pull=False, report=silent)
)
print(image.digest)
