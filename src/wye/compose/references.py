"""Image references, as the distribution specification writes them: `[host[:port]/]path[:tag][@digest]`."""

from __future__ import annotations

import re

_LENGTH = 512
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def is_reference(text: str) -> bool:
    return len(text) <= _LENGTH and _REFERENCE.fullmatch(text) is not None


def hint_for(text: str) -> str:
    """A hint for what is not a reference."""
    if text.startswith(("http://", "https://")):
        return "leave out the scheme"
    repository = text.rsplit(":", 1)[0] if "/" not in text.rsplit(":", 1)[-1] else text
    if repository.lower() != repository:
        return "repositories are in lower case"
    return "write it like postgres:16 or registry.example.com/team/app:1.2"
