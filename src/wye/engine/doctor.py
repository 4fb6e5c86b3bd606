"""doctor: what this host can do, what is missing, and the fix."""

from __future__ import annotations

from wye.engine.context import Engine
from wye.errors import WyeError
from wye.interfaces import Finding


def doctor(engine: Engine) -> list[Finding]:
    """One finding at least per subject. A probe that fails is itself a finding."""
    found: list[Finding] = []
    for subject, probe in engine.probes:
        try:
            found += probe()
        except WyeError as error:
            found.append(Finding(subject=subject, level="failure", text=error.message, fix=error.hint or ""))
    return found
