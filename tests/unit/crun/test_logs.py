from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.drivers.crun.logs import Logs
from wye.host import Host

WHEN = "2024-05-01T10:00:{:02}.500000000+02:00"


class Looking(Host):
    """Instead of sleeping, does the next thing."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)

    def sleep(self, seconds: float) -> None:
        step = self.steps.pop(0)
        assert callable(step)
        step()


def log(directory: Path, *lines: str) -> Path:
    path = directory / "e" / "web.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
    return path


def line(second: int, text: str, stream: str = "stdout", tag: str = "F") -> str:
    return f"{WHEN.format(second)} {stream} {tag} {text}"


def texts(directory: Path, host: Host | None = None, **options: object) -> list[str]:
    return [one.text for one in Logs(host or Host(), directory).read("e", "web", **options)]  # type: ignore[arg-type]


def test_time_stream_and_text(tmp_path: Path) -> None:
    log(tmp_path, line(1, "a b  c "), line(2, "", "stderr"), "2024-05-01T08:00:03.25Z stdout F z")
    found = list(Logs(Host(), tmp_path).read("e", "web"))
    assert [(one.at - 1714550400, one.stream, one.text) for one in found] == [
        (1.5, "stdout", "a b  c "),
        (2.5, "stderr", ""),
        (3.25, "stdout", "z"),
    ]


def test_parts_of_a_line_are_put_together_stream_by_stream(tmp_path: Path) -> None:
    log(tmp_path, line(1, "one ", tag="P"), line(2, "other", "stderr"), line(3, "line"), line(4, "begun", tag="P"))
    found = list(Logs(Host(), tmp_path).read("e", "web"))
    assert [(one.stream, one.text) for one in found] == [
        ("stderr", "other"),
        ("stdout", "one line"),
        ("stdout", "begun"),
    ]
    assert found[1].at < found[0].at


def test_what_is_no_log_line_is_passed_over(tmp_path: Path) -> None:
    log(tmp_path, "", "rubbish", line(1, "good"), "2024-13-45T10:00:00.5Z stdout F x")
    assert texts(tmp_path) == ["good"]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 999, 1000, 5000])
def test_the_tail_of_a_long_log(tmp_path: Path, count: int) -> None:
    log(tmp_path, *(line(n % 60, f"{n} {'x' * 500}") for n in range(1000)))
    expected = [f"{n} {'x' * 500}" for n in range(max(0, 1000 - count), 1000)]
    assert texts(tmp_path, tail=count) == expected


def test_the_tail_of_lines_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    parts = [line(n, "x" * 8000, tag="P") for n in range(40)]
    log(tmp_path, line(0, "first"), *parts, line(41, "end"), line(42, "last"))
    assert [len(text) for text in texts(tmp_path, tail=2)] == [40 * 8000 + 3, 4]


def test_following(tmp_path: Path) -> None:
    going = [True]

    def stop() -> None:
        log(tmp_path, line(4, "four"))
        going[0] = False

    log(tmp_path, line(1, "one"))
    path = tmp_path / "e" / "web.log"

    def start_anew() -> None:
        log(tmp_path, line(2, "two"))
        path.unlink()
        log(tmp_path, line(3, "three"))

    assert texts(tmp_path, Looking(start_anew, lambda: None, stop), tail=0, follow=lambda: going[0]) == [
        "two",
        "three",
        "four",
    ]


def test_a_log_that_begins_later(tmp_path: Path) -> None:
    seen: list[int] = []
    host = Looking(lambda: log(tmp_path, line(1, "one")), lambda: seen.append(1))
    assert texts(tmp_path, host, follow=lambda: not seen) == ["one"]


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = log(Path(name), line(1, "x"))
        with path.open("ab") as file:
            file.write(data)
        assert texts(Path(name))[0] == "x"
