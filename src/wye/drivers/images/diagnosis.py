"""What a machine lacks for making and pulling images, in words, for `wye doctor`. Asks no archive and no registry."""

from __future__ import annotations

import shutil
from pathlib import Path

from wye.drivers.images.debian import Debian, without_credentials
from wye.errors import Unsupported
from wye.interfaces import Finding

_PROGRAMS = {
    "mmdebstrap": "catalogue images (wye/...) cannot be made",
    "skopeo": "images cannot be pulled from registries",
    "umoci": "images from registries cannot be unpacked",
}


def findings(debian: Debian) -> list[Finding]:
    """Reads only. What is missing is a warning: images that are here already go on working."""
    return [*(_program(*one) for one in _PROGRAMS.items()), _archive(debian)]


def _program(program: str, without: str) -> Finding:
    path = shutil.which(program)
    if path is None:
        text = f"not installed: {without}"
        return Finding(subject=program, level="warning", text=text, fix=f"apt-get install {program}")
    return Finding(subject=program, level="ok", text=path)


def _archive(debian: Debian) -> Finding:
    subject = "package archive"
    try:
        release, sources = debian.release(), debian.sources()
    except Unsupported as error:
        return Finding(subject=subject, level="warning", text=error.message, fix=error.hint or "")
    named = [source.fields["Signed-By"] for source in sources if source.fields.get("Signed-By", "").startswith("/")]
    missing = [path for path in named if not Path(path).exists()]
    if missing:
        text = f"there is no key {missing[0]} to check packages with"
        return Finding(subject=subject, level="warning", text=text, fix="apt-get install debian-archive-keyring")
    places = without_credentials(", ".join(sorted({source.fields["URIs"] for source in sources})))
    return Finding(subject=subject, level="ok", text=f"Debian {release.codename} from {places}")
