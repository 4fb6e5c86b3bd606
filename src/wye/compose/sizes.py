"""Byte sizes and durations, as compose writes them. Pure.

Sizes are Docker's: `512m`, `1.5 GiB`, `64kb`, all powers of 1024. Durations are Go's with days and weeks added:
`1m30s`, `1.5h`, `100ms`. Both raise ValueError with a sentence for the user; the caller knows the key and the line.
"""

from __future__ import annotations

import re
from decimal import Decimal

_SIZE = re.compile(r"(?P<number>[0-9]{1,19}(?:\.[0-9]{1,18})?) ?(?P<unit>[kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

_PART = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?P<unit>ns|us|µs|μs|ms|s|m|h|d|w)")
_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_LARGEST_BYTES = 1 << 62
_LARGEST_SECONDS = Decimal(100 * 365 * 86400)


def parse_bytes(text: str) -> int:
    """Bytes, rounded down. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a size; write it like 512m or 1.5g')
    size = int(Decimal(match["number"]) * 1024 ** _POWERS[match["unit"].lower()])
    if size > _LARGEST_BYTES:
        raise ValueError(f'"{text}" is more than any machine has')
    return size


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError."""
    bare = text.strip()
    if bare == "0":
        return 0.0
    position, total = 0, Decimal(0)
    while position < len(bare):
        match = _PART.match(bare, position)
        if match is None:
            break
        total += Decimal(match["number"].rstrip(".")) * _SECONDS[match["unit"]]
        position = match.end()
    if not bare or position != len(bare):
        raise ValueError(f'"{text}" is not a duration; write it like 1m30s or 500ms')
    if total > _LARGEST_SECONDS:
        raise ValueError(f'"{text}" is more than a hundred years')
    return float(total)
