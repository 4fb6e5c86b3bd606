"""Resolution files: read strictly, written to be filled in, with ids that may be cut short."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wye.api import wire
from wye.cli import resolution_file, resolutions
from wye.errors import BadRequest, Conflict, NotFound

IDS = st.text("0123456789abcdef", min_size=4, max_size=64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# YAML takes no key of more than 1,024 characters in one line, and an escape is six or twelve of them.
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
CHOICES = st.sampled_from(["ours", "theirs"]) | st.fixed_dictionaries({"value": JSON})
FILES = st.dictionaries(IDS, CHOICES, max_size=5)


def answers(text: str) -> dict[str, Any]:
    return {key: choice.answer for key, choice in resolution_file.parse(text).items()}


@given(FILES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_is_read_as_it_was_written(written: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    assert answers(json.dumps(written, indent=indent, ensure_ascii=ascii_only)) == written


@given(FILES)
def test_json_in_yamls_block_style_is_read_as_it_was_written(written: dict[str, Any]) -> None:
    text = "".join(f"{key}: {json.dumps(answer)}\n" for key, answer in written.items())
    found = resolution_file.parse(text)
    assert {key: choice.answer for key, choice in found.items()} == written
    assert [choice.line for choice in found.values()] == list(range(1, len(written) + 1))


@given(st.dictionaries(IDS, st.sampled_from(["ours", "theirs"]) | st.fixed_dictionaries({"value": TEXT}), max_size=5))
def test_what_others_write_as_yaml_is_read(written: dict[str, Any]) -> None:
    assert answers(yaml.safe_dump(written, allow_unicode=False)) == written


@given(st.text(), st.binary())
def test_anything_else_is_refused_with_a_line(text: str, data: bytes) -> None:
    for given_text in (text, data.decode(errors="replace"), f"{{{text}", f"abcd: {text}"):
        refusal = None
        try:
            json.dumps(answers(given_text))
        except BadRequest as error:
            refusal = error
        assert refusal is None or (refusal.message.startswith("line ") and refusal.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3f9c: theirs\n8a7b: mine\n", "line 2: say for 8a7b: ours, theirs or {value: ...}"),
        ("3f9c:\n", "line 1: say for 3f9c"),
        ("3f9c: {value: 1, other: 2}", "line 1: say for 3f9c"),
        ("3f9c: ours\n\n# again\n3f9c: ours\n", "line 4: '3f9c' is named twice, first in line 1"),
        ('{"3f9c": "ours",\n"3f9c": "ours"}', "line 2: '3f9c' is named twice"),
        ("orders.7: ours", "line 1: 'orders.7' is not the id of a conflict"),
        ("3f: ours", "line 1: '3f' is not the id of a conflict"),
        ("\ndefault: {value: 1}", "line 2: the default is ours or theirs"),
        ("- 3f9c", "line 1: a resolution file says"),
        ("3f9c: &a {value: *a}", "line 1: aliases are not taken here"),
        ("3f9c: {value: {a: 1,\n a: 2}}", "line 2: 'a' comes twice"),
        ('{"3f9c": {"value": {"a": 1,\n"a": 2}}}', "line 2: 'a' comes twice"),
        ("3f9c: {value: !!python/name:os.system }", "line 1: tag:yaml.org,2002:python/name:os.system is not taken"),
        ("3f9c: {value: [", "line 1: "),
        ("{" * 100_000, "line 1: "),
        ('{"3f9c":' * 50_000, "line 1: "),
    ],
)
def test_mistakes_name_their_line(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        resolution_file.parse(text)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("42", 42), ("-1", -1), ("1.5", 1.5), ("1.10", "1.10"), ("007", "007"), ("1e5", "1e5"), ("1e999", "1e999"),
        ("true", True), ("yes", "yes"), ("null", None), ("~", None), ("2026-01-02", "2026-01-02"), ("'42'", "42"),
        ('"a\\nb"', "a\nb"), ("NaN", "NaN"), ("0x10", "0x10"), ("12:30", "12:30"), ("9" * 5000, "9" * 5000),
        ("{a: [1, x]}", {"a": [1, "x"]}), ('"\\ud83d\\ude00"', "😀"),
    ],
)  # fmt: skip
def test_values_are_what_is_written(written: str, value: Any) -> None:
    (found,) = answers(f"3f9c0a1b2c3d: {{value: {written}}}").values()
    assert found == {"value": value}
    assert type(found["value"]) is type(value)


def test_ids_that_look_like_numbers() -> None:
    assert answers("123456789012: ours\n1e10: theirs\n0b11: ours\n") == {
        "123456789012": "ours", "1e10": "theirs", "0b11": "ours",
    }  # fmt: skip


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert resolution_file.read(None) == {}
    with pytest.raises(BadRequest, match=r"cannot read .*No such file"):
        resolution_file.read(tmp_path / "none")
    (tmp_path / "odd").write_bytes(b"3f9c: \xff")
    with pytest.raises(BadRequest, match=r"is not UTF-8: .* at byte 6"):
        resolution_file.read(tmp_path / "odd")
    (tmp_path / "odd").write_bytes(b"\xef\xbb\xbf3f9c: ours\n")
    assert resolution_file.read(tmp_path / "odd")["3f9c"].answer == "ours"


# ---------------------------------------------------------------- ids that are cut short


def conflict(identity: str, **changes: Any) -> wire.ConflictView:
    fields = {
        "id": identity, "kind": "update/update", "place": "postgres db/public.orders", "key": ("7",),
        "column": "status", "base": "new", "ours": "paid", "theirs": "shipped",
        "choices": ("ours", "theirs", "value"), "detail": "",
    }  # fmt: skip
    return wire.ConflictView.model_validate({**fields, **changes})


class Daemon:
    """Merges when nothing is open; what comes up second appears when the rest is settled."""

    def __init__(self, *first: str, second: Iterable[str] = ()) -> None:
        self.first, self.second = first, tuple(second)
        self.calls: list[wire.Resolutions] = []

    def __call__(self, decided: wire.Resolutions) -> wire.MergeResult:
        self.calls.append(decided)
        left = [] if "default" in decided else [each for each in self.first if each not in decided]
        left = left or ([] if "default" in decided else [each for each in self.second if each not in decided])
        found = tuple(conflict(each) for each in left)
        return wire.MergeResult(source="fix-1", into="production", merged=not left, rehearsed=True, conflicts=found)


A, B, C = "aaaa00000001", "aaaa00000002", "cccc00000003"


def test_whole_ids_take_one_call() -> None:
    daemon = Daemon(A, B)
    assert resolutions.settle(resolution_file.parse(f"{A}: ours\ndefault: theirs"), daemon).merged
    assert daemon.calls == [{A: "ours", "default": "theirs"}]


def test_short_ids_are_found_even_those_that_come_up_later() -> None:
    daemon = Daemon(A, second=[C])
    assert resolutions.settle(resolution_file.parse("aaaa: ours\ncccc: theirs\n"), daemon).merged
    assert daemon.calls == [{}, {A: "ours"}, {A: "ours", C: "theirs"}]


def test_the_default_waits_until_short_ids_are_known() -> None:
    daemon = Daemon(A, C)
    resolutions.settle(resolution_file.parse("aaaa: ours\ndefault: theirs\n"), daemon)
    assert daemon.calls == [{}, {A: "ours", "default": "theirs"}]


def test_a_short_id_that_fits_nothing_or_too_much() -> None:
    with pytest.raises(NotFound, match="line 2: there is no conflict bbbb"):
        resolutions.settle(resolution_file.parse("\nbbbb: ours"), Daemon(A))
    with pytest.raises(BadRequest, match=f"aaaa may be any of {A}, {B}"):
        resolutions.settle(resolution_file.parse("aaaa: ours"), Daemon(A, B))


# ---------------------------------------------------------------- a file to fill in


def test_a_template_filled_in_is_read_and_hostile_values_stay_comments(tmp_path: Path) -> None:
    odd = "x\ndefault: theirs\r\u2028\x85\x1b[2J"
    found = (
        conflict(A, place=odd, key=(odd, None), column=odd, base=odd, ours={odd: odd}, theirs=None, detail=odd),
        conflict(C, choices=(), kind="role", base=None, ours=None, theirs=None),
    )
    result = wire.MergeResult(source="fix-1", into="production", merged=False, rehearsed=True, conflicts=found)
    file = tmp_path / "resolve.yaml"
    resolutions.write_template(file, result)
    text = file.read_text()
    assert all(line.startswith(("#", '"')) or not line for line in text.splitlines())
    assert "\x1b" not in text
    assert C not in text
    with pytest.raises(BadRequest, match="say for aaaa00000001"):
        resolution_file.read(file)
    file.write_text(text.replace(f'"{A}":', f'"{A}": theirs').replace("# default:", "default:"))
    assert {key: each.answer for key, each in resolution_file.read(file).items()} == {"default": "ours", A: "theirs"}
    with pytest.raises(Conflict):
        resolutions.write_template(file, result)
    with pytest.raises(BadRequest, match="cannot write"):
        resolutions.write_template(tmp_path / "none" / "x", result)
