from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.compose.sizes import parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1b", 1),
        ("1k", 1024),
        ("1K", 1024),
        ("64kb", 65536),
        ("64KiB", 65536),
        ("1.5 GiB", 1536 << 20),
        ("1.5g", 1536 << 20),
        ("2tb", 2 << 40),
        ("1p", 1 << 50),
        ("0.5", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "1 k b", "-1", "1..5g", "g", "1e3", "99999p", "१k", "9" * 50])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|than any machine has"):
        parse_bytes(text)


@given(st.integers(0, 4096), st.integers(0, 5), st.sampled_from(["", " "]), st.sampled_from(["", "b", "ib", "B", "iB"]))
def test_sizes_come_back(number: int, power: int, space: str, suffix: str) -> None:
    unit = ["", "k", "M", "g", "T", "p"][power]
    assert parse_bytes(f"{number}{space}{unit}{suffix}") == number * 1024**power


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("10s", 10),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("100ms", 0.1),
        ("2us", 2e-6),
        ("1d", 86400),
        ("1w", 604800),
        ("1h5m30s20ms", 3930.02),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "-1s", "1m 30s", "1s!", "9999999999w", "1y"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|than a hundred years"):
        parse_duration(text)


@given(st.integers(0, 1000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    assert parse_duration(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_bytes, parse_duration):
        try:
            assert parse(text) >= 0
        except ValueError:
            pass
