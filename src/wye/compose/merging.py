"""What a project says of merging: `x-wye: merge:` and `x-wye: checks:`.

Other rooms act on these settings; here they are only checked, where the file and the line are known. A policy that is
misspelt would be found out when a merge had already done what it forbids.
"""

from __future__ import annotations

import difflib

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.merge.rows import Grain

_CHECKS = ("run", "http", "sql")
_LONGEST_S = 86400.0


def check_merge(at: At, findings: Findings) -> None:
    """Raises ComposeError."""
    if at.is_null:
        return
    known = fields(at, ("table", "delta", "fields"), findings)
    if (tables := known.get("table")) is not None and not tables.is_null:
        for name, grain in tables.entries().items():
            if not name.strip("."):
                raise grain.error("has no name")
            _one_of(grain, tuple(Grain))
    for each in _listed(known.get("delta")):
        if "." not in each.filled().strip("."):
            raise each.error(f'"{each.string()}" names no column', hint="write it as table.column")
    for each in _listed(known.get("fields")):
        each.filled()


def check_checks(at: At, findings: Findings) -> None:
    """Raises ComposeError."""
    for each in _listed(at):
        known = fields(each, ("name", "timeout", "service", *_CHECKS), findings)
        kinds = [kind for kind in _CHECKS if kind in known.known]
        if len(kinds) != 1:
            raise each.error(f"a check needs one of {', '.join(_CHECKS)}, and no two")
        known.filled("name")
        known.filled("service")
        if (timeout := known.get("timeout")) is not None and not 0 < timeout.number() <= _LONGEST_S:
            raise timeout.error(f"must be more than 0 and at most {_LONGEST_S:g} seconds")
        if kinds != ["http"]:
            known.filled(kinds[0])
            continue
        _check_request(known.required("http"), findings, has_service="service" in known.known)


def _check_request(at: At, findings: Findings, *, has_service: bool) -> None:
    if at.is_text:
        path = at.filled()
    else:
        wanted = fields(at, ("service", "port", "path", "status", "body"), findings)
        has_service = wanted.filled("service") is not None or has_service
        wanted.integer("port", 1, 65535)
        wanted.integer("status", 100, 599)
        wanted.read("body", At.text)
        path = wanted.filled("path") or "/"
    if not path.startswith("/") or any(c <= " " or c == "\x7f" for c in path):
        raise at.error(f'"{path}" is no path of a request: it begins with / and has no spaces')
    if not has_service:
        raise at.error("names no service to ask", hint="add service: NAME")


def _listed(at: At | None) -> tuple[At, ...]:
    return () if at is None or at.is_null else at.items()


def _one_of(at: At, words: tuple[str, ...]) -> None:
    text = at.text()
    if text not in words:
        near = difflib.get_close_matches(text, words, 1)
        raise at.error(
            f'must be {", ".join(words[:-1])} or {words[-1]}, not "{text}"',
            hint=f"did you mean {near[0]}?" if near else None,
        )
