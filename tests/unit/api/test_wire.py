"""The wire says what the engine says: field by field, with the same defaults for what may be left out."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from wye import interfaces, model
from wye.api import faults, wire
from wye.api.values import made, news, read
from wye.engine import execute, up, views
from wye.errors import BadRequest, Denied, Exhausted, Unavailable, WyeError
from wye.host import DiskFull

VIEWS = [
    (getattr(wire, name), kind)
    for name, kind in vars(views).items()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == views.__name__
]
PAIRS = [
    *VIEWS,
    (wire.Usage, model.Usage),
    (wire.Event, model.Event),
    (wire.Progress, interfaces.Progress),
    (wire.Finding, interfaces.Finding),
]


def fields_of(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(("on_wire", "in_engine"), PAIRS, ids=lambda kind: kind.__name__)
def test_views_have_the_same_fields(on_wire: type[BaseModel], in_engine: type) -> None:
    assert set(on_wire.model_fields) == fields_of(in_engine)
    for field in dataclasses.fields(in_engine):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        assert on_wire.model_fields[field.name].is_required() is not has_default, field.name


def test_requests_have_the_same_fields() -> None:
    assert set(wire.UpRequest.model_fields) | {"name"} == fields_of(up.Request)
    assert set(wire.ExecRequest.model_fields) - {"stdin"} == fields_of(execute.Request)
    assert set(wire.LogLine.model_fields) - {"replica"} == fields_of(interfaces.LogLine)
    assert set(wire.EnvironmentView.model_fields) == fields_of(views.EnvironmentView)


def test_a_request_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        wire.ForkRequest.model_validate({"nmae": "x"})
    with pytest.raises(BadRequest, match=r"^nmae: extra inputs are not permitted$"):
        made(wire.ForkRequest, nmae="x")


def test_an_answer_with_an_unknown_field_is_read() -> None:
    assert read(wire.Version, b'{"version": "9", "api": 1, "colour": "red"}').version == "9"


@given(st.text(st.characters()), st.text())
def test_text_that_is_no_unicode_crosses_as_escapes(odd: str, even: str) -> None:
    """A fork may name its files and keys with any bytes."""
    row = {odd: [odd, {"x": even}, 1, None]}
    conflict = views.ConflictView(
        id="x",
        kind="k",
        place=odd,
        key=(odd, None),
        column=odd,
        base=row,
        ours=even,
        theirs=None,
        choices=(),
        detail=odd,
    )
    sent = wire.ConflictView.model_validate(conflict)
    assert read(wire.ConflictView, sent.model_dump_json().encode()) == sent
    assert sent.ours == even.encode(errors="backslashreplace").decode()
    assert os.fsdecode(b"a\xff") == "a\udcff"
    assert wire.FileView(kind="link", size_bytes=0, mode=0, uid=0, gid=0, target="a\udcff").target == "a\\xff"


def test_an_answer_without_a_field_is_a_bad_answer() -> None:
    with pytest.raises(faults.BadAnswer, match="api: field required"):
        read(wire.Version, b'{"version": "9"}')
    with pytest.raises(faults.BadAnswer):
        read(wire.Version, b"<html>")


@pytest.mark.parametrize("branch", [*WyeError.__subclasses__(), Exhausted, DiskFull])
def test_an_error_crosses_unchanged(branch: type[WyeError]) -> None:
    if branch.__init__ is not WyeError.__init__:
        pytest.skip("made from other arguments")
    before = branch("no room", hint="make some")
    after = faults.from_answer(before.http_status, faults.encode(before).model_dump_json().encode())
    assert (after.message, after.hint) == (before.message, before.hint)
    assert (after.code, after.exit_code, after.retryable) == (before.code, before.exit_code, before.retryable)
    assert isinstance(before, type(after))


def test_an_answer_that_is_no_error_of_ours() -> None:
    assert isinstance(faults.from_answer(502, b"<html>bad gateway</html>"), Unavailable)
    assert isinstance(faults.from_answer(401, b""), Denied)
    assert "bad gateway" in str(faults.from_answer(502, b"bad gateway"))


def test_an_error_in_a_stream_of_lines_is_raised() -> None:
    line = faults.encode(Denied("no")).model_dump_json().encode()
    with pytest.raises(Denied, match="no"):
        news(wire.Event, line)
