"""`healthcheck` → `Healthcheck`.

A string and `CMD-SHELL` run in `/bin/sh -c`, `CMD` as it is; `NONE` and `disable: true` switch off the image's own
check. Only a `test` makes a check: other settings alone cannot be laid over an image's.
"""

from __future__ import annotations

from dataclasses import replace

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.model import Healthcheck

_KEYS = ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
_DISABLED = Healthcheck(test=())


def read_healthcheck(at: At, findings: Findings) -> Healthcheck | None:
    """None: the image's own. Raises ComposeError."""
    known = fields(at, _KEYS, findings)
    retries = known.integer("retries", 0, 1_000_000)
    check = Healthcheck(
        test=(),
        interval_s=known.duration("interval", 0.0) or _DISABLED.interval_s,
        timeout_s=known.duration("timeout", 0.0) or _DISABLED.timeout_s,
        retries=retries or _DISABLED.retries,
        start_period_s=known.duration("start_period", 0.0),
        start_interval_s=known.duration("start_interval", 0.0) or _DISABLED.start_interval_s,
    )
    test = known.get("test")
    argv = _argv(test) if test is not None else None
    if known.boolean("disable") or argv == ():
        return _DISABLED
    if argv is None:
        if known.known:
            findings.warn(at, "has no effect without a test")
        return None
    return replace(check, test=argv)


def _argv(at: At) -> tuple[str, ...]:
    """Empty: disabled."""
    if at.is_text:
        return ("/bin/sh", "-c", at.filled())
    words = tuple(item.string() for item in at.items())
    form, rest = words[:1], words[1:]
    if form == ("NONE",) and not rest:
        return ()
    if form == ("CMD",) and rest:
        return rest
    if form == ("CMD-SHELL",) and len(rest) == 1:
        return ("/bin/sh", "-c", rest[0])
    raise at.error("is not a healthcheck", hint='write ["CMD", "program", ...], ["CMD-SHELL", "command"] or ["NONE"]')
