from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.compose import dotenv
from wye.compose.nodes import ComposeError, Origin
from wye.errors import WyeError

CALLER = {"HOME": "/home/u", "SET": "caller"}
ORIGIN = Origin(Path("/p/.env"), ".env", Path("/p"), CALLER)


def parse(text: str, *, raw: bool = False) -> dict[str, str]:
    return dotenv.parse(text, ORIGIN, raw=raw)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("K = v", "v"),
        ("  K=v  ", "v"),
        ("export K=v", "v"),
        ("K: v", "v"),
        ("K =v", "v"),
        ("K=", ""),
        ("K=a b c", "a b c"),
        ("K=v # comment", "v"),
        ("K=v#kept", "v#kept"),
        ("K=#comment", ""),
        ("K=a=b=c", "a=b=c"),
        ("K='v'", "v"),
        ("K='$HOME # kept'", "$HOME # kept"),
        ("K='it\\'s'", "it's"),
        ('K="v" # comment', "v"),
        ('K="a\\nb\\tc"', "a\nb\tc"),
        ('K="say \\"hi\\""', 'say "hi"'),
        ('K="a\\\\b"', "a\\b"),
        ('K="$HOME"', "/home/u"),
        ('K="\\$HOME"', "$HOME"),
        ("K=$HOME/x", "/home/u/x"),
        ("K=${NONE:-d}", "d"),
        ("K=$$5", "$5"),
        ("K='a\nb'", "a\nb"),
        ('K="a\nb"', "a\nb"),
        ('K="{"a": 1}"'.replace('"a"', "'a'"), "{'a': 1}"),
        ("K=grüße", "grüße"),
        ("K=v\r\n", "v"),
    ],
)
def test_one_variable(line: str, value: str) -> None:
    assert parse(f"# first\n\n{line}\n") == {"K": value}


def test_later_lines_see_earlier_ones_and_the_caller_wins() -> None:
    assert parse("SET=file\nA=$SET\nB=${A}s\nA=2\n") == {"SET": "file", "A": "2", "B": "callers"}


def test_a_bare_name_takes_the_callers_value() -> None:
    assert parse("SET\nNONE\nexport HOME # c\nX=1") == {"SET": "caller", "HOME": "/home/u", "X": "1"}


def test_raw_takes_everything_after_the_equals_sign() -> None:
    text = "# c\nA='q' # kept\nB=$HOME\nC= x \n\nSET\n"
    assert parse(text, raw=True) == {"A": "'q' # kept", "B": "$HOME", "C": " x ", "SET": "caller"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\n=2\n", '"=2" is not KEY=value (.env:2)'),
        ("A=1\nB C=2\n", '"B C=2" is not KEY=value (.env:2)'),
        ("A=1\n\nB='x\n", "B: the ' is not closed (.env:3)"),
        ('B="x" y\n', "B: text after the closing quote (.env:1)"),
        ("A=$1\n", 'A: "$1" is not a variable (.env:1)'),
        ("\nA=${X:?give X}\n", "A: the variable X is not set: give X (.env:2)"),
    ],
)
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ComposeError) as caught:
        parse(text)
    assert str(caught.value) == message


keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)


@given(st.dictionaries(keys, values, max_size=5))
def test_double_quotes_carry_any_text(variables: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'

    text = "".join(f"{key}={quoted(value)}\n" for key, value in variables.items())
    assert parse(text) == variables


@given(st.dictionaries(keys, values.filter(lambda text: not set("'\\") & set(text)), max_size=5))
def test_single_quotes_keep_text_as_it_is(variables: dict[str, str]) -> None:
    assert parse("".join(f"{key}='{value}'\n" for key, value in variables.items())) == variables


@given(st.text(alphabet="AB=:'\"\\$ {}#\n\t-x", max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except WyeError:
        pass
