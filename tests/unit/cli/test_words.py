"""Sizes, times and durations, to and fro."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.cli import words
from wye.errors import BadRequest


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (5 << 30, "5.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4.2 ms"), (0.104, "104 ms"), (0.9994, "999 ms"), (2.31, "2.3 s"), (59.99, "1 m 0 s"), (75, "1 m 15 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (59, "59 s"), (60, "1 m"), (7200, "2 h"), (86400 * 3, "3 d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert words.age(1000.0, 1000.0 + seconds) == text


@pytest.mark.parametrize(
    ("text", "count"), [("1000", 1000), ("512M", 512 << 20), ("5GiB", 5 << 30), ("1.5k", 1536), ("2 TB", 2 << 40)]
)
def test_sizes_that_people_write(text: str, count: int) -> None:
    assert words.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "x", "5 apples", "-1", "1e3", "GiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a size"):
        words.parse_size(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", 910.0),
        ("10m", 400.0),
        ("1m30s", 910.0),
        ("500ms", 999.5),
        ("123.5", 123.5),
        ("1970-01-01T00:10:00Z", 600.0),
        ("1970-01-01T01:10:00+01:00", 600.0),
    ],
)
def test_times_that_people_write(text: str, at: float) -> None:
    assert words.parse_since(text, 1000.0) == at


@pytest.mark.parametrize("text", ["", "yesterday", "5x", "m", "nan", "inf", "0001-01-01T00:00+20:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a time"):
        words.parse_since(text, 1000.0)


@given(st.floats(min_value=0, max_value=4e9))
def test_moments_are_exact_to_the_millisecond(at: float) -> None:
    assert abs(words.parse_since(words.exact_moment(at), 0.0) - at) <= 0.001


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (words.parse_size, lambda given: words.parse_since(given, 0.0)):
        with contextlib.suppress(BadRequest):
            parse(text)
