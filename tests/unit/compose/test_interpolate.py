from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.compose.interpolate import Expander, TemplateError

VARIABLES = {"FULL": "full", "EMPTY": "", "A": "1", "_b2": "two"}


def expand(template: str) -> str:
    return Expander(VARIABLES, lambda name: None).expand(template)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("$FULL", "full"),
        ("a${FULL}b", "afullb"),
        ("$FULL-$A", "full-1"),
        ("$FULLER", ""),
        ("${_b2}$_b2", "twotwo"),
        ("$$FULL", "$FULL"),
        ("$$$FULL", "$full"),
        ("${FULL:-d}", "full"),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${FULL-d}", "full"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${FULL:?m}", "full"),
        ("${FULL?m}", "full"),
        ("${EMPTY?m}", ""),
        ("${FULL:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${NONE:+r}", ""),
        ("${FULL+r}", "r"),
        ("${EMPTY+r}", "r"),
        ("${NONE+r}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-${EMPTY:-${FULL}}}", "full"),
        ("${NONE:-a${A}b$FULL}", "a1bfull"),
        ("${NONE:-$$x}", "$x"),
        ("${FULL:-${NONE:?never asked}}", "full"),
        ("${NONE:-http://h:80/?q=1}", "http://h:80/?q=1"),
        ('${NONE:-{"a":1}', '{"a":1'),
    ],
)
def test_operators(template: str, text: str) -> None:
    assert expand(template) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${NONE:?say it}", "the variable NONE is not set: say it"),
        ("${EMPTY:?say $A}", "the variable EMPTY is empty: say 1"),
        ("${NONE?}", "the variable NONE is not set"),
        ("cost: $5", '"$5" is not a variable'),
        ("end$", '"$" is not a variable'),
        ("${", '"${" is not closed'),
        ("${A", '"${A" is not closed'),
        ("${A:-${B}", '"${A:-${B}" is not closed'),
        ("${}", '"${}" names no variable'),
        ("${1}", '"${1}" names no variable'),
        ("${A!x}", '"${A!x}" has no operator after A'),
        ("${A:x}", '"${A:x}" has no operator after A'),
        ("${A b}", '"${A b}" has no operator after A'),
    ],
)
def test_what_cannot_be_expanded(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        expand(template)
    assert caught.value.message == message
    assert caught.value.hint


def test_what_is_missing_is_reported_only_where_it_is_used() -> None:
    missing: list[str] = []
    Expander(VARIABLES, missing.append).expand("$X ${Y} ${Z-d} ${FULL:-$W} ${NONE:-$V}")
    assert missing == ["X", "Y", "V"]


def test_nesting_is_limited() -> None:
    with pytest.raises(TemplateError, match="nested more than"):
        expand("${N:-" * 50 + "x" + "}" * 50)


def test_what_comes_out_is_limited() -> None:
    with pytest.raises(TemplateError, match="MiB of text"):
        Expander({"A": "x" * 1_000_000}, lambda name: None).expand("$A" * 1000)


@dataclass(frozen=True)
class Piece:
    """A template and what it must become, made together."""

    template: str
    text: str


names = st.sampled_from([*VARIABLES, "NONE", "GONE"])
literals = st.text(st.characters(exclude_characters="${}", exclude_categories=["Cs"]), max_size=6)


def substituted(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    def build(name: str, operator: str, operand: Piece) -> Piece:
        value = VARIABLES.get(name)
        is_there = bool(value) if ":" in operator else value is not None
        if operator.endswith("-"):
            text = (value or "") if is_there else operand.text
        else:
            text = operand.text if is_there else ""
        return Piece(f"${{{name}{operator}{operand.template}}}", text)

    return st.builds(build, names, st.sampled_from([":-", "-", ":+", "+"]), inner)


def joined(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    return st.lists(inner, max_size=4).map(
        lambda parts: Piece("".join(part.template for part in parts), "".join(part.text for part in parts))
    )


pieces = st.recursive(
    st.one_of(
        literals.map(lambda text: Piece(text, text)),
        st.just(Piece("$$", "$")),
        names.map(lambda name: Piece(f"${{{name}}}", VARIABLES.get(name, ""))),
    ),
    lambda inner: st.one_of(joined(inner), substituted(inner)),
    max_leaves=12,
)


@given(joined(pieces))
def test_any_nesting_means_what_it_was_made_to_mean(piece: Piece) -> None:
    # "$$" directly before a "{" of ours cannot arise: literals hold no braces, and operands start after an operator.
    if "$${" not in piece.template:
        assert expand(piece.template) == piece.text


@given(st.text(max_size=60))
def test_escaping_every_dollar_gives_the_text_back(text: str) -> None:
    assert expand(text.replace("$", "$$")) == text


@given(st.text(alphabet="${}:-?+AB x", max_size=40))
def test_anything_expands_or_is_refused(template: str) -> None:
    try:
        expand(template)
    except TemplateError:
        pass
