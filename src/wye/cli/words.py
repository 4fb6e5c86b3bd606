"""Sizes, times and durations as people write and read them. Pure: what is now is an argument."""

from __future__ import annotations

import contextlib
import math
import re
from datetime import UTC, datetime

from wye.errors import BadRequest

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(count: int) -> str:
    """1536 → "1.5 KiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float) -> str:
    """0.0042 → "4.2 ms", 0.104 → "104 ms", 2.31 → "2.3 s", 75 → "1 m 15 s"."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest} s"


def age(at: float, now: float) -> str:
    """How long ago, to one unit: "12 s", "3 m", "2 h", "5 d"."""
    seconds = max(0, int(now - at))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def moment(at: float) -> str:
    """Local time to the second: "2026-11-20 11:18:29"."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def exact_moment(at: float) -> str:
    """UTC to the millisecond: "2026-11-20T11:18:29.123Z"."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short(object_id: str) -> str:
    """An id's first 12 digits: enough to find it by."""
    return object_id[:12]


def count(number: int, noun: str) -> str:
    """1 → "1 file", 2 → "2 files"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def harmless(text: str, *, keep: str = "") -> str:
    """`text` with control characters made visible, but for those in `keep`: a fork's output may hold any."""
    return "".join(
        each if each in keep or (each.isprintable() or each == " ") else each.encode("unicode_escape").decode()
        for each in text
    )


def cut(text: str, length: int) -> str:
    """At most `length` characters; what is cut off leaves an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def parse_size(text: str) -> int:
    """ "5GiB", "512M", "1000": bytes; K, M, G, T are powers of 1024. Raises BadRequest."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"{text!r} is not a size", hint="for example 512M or 5GiB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def parse_since(text: str, now: float) -> float:
    """ "90s", "10m", "2h", "1h30m" ago, a date or time as ISO 8601 has it, or Unix seconds. Raises BadRequest."""
    spans = _SPAN.findall(text)
    if spans and "".join(number + unit for number, unit in spans) == text:
        return now - sum(float(number) * _SECONDS[unit] for number, unit in spans)
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds):
            return seconds
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{text!r} is not a time", hint="for example 10m, 2h, 2026-11-20T11:00, 2026-11-20T11:00Z or Unix seconds"
        ) from None
