from __future__ import annotations

from pathlib import Path

import pytest

from wye.compose.document import DEPTH, kind_of, parse
from wye.compose.nodes import ComposeError, Directive, Items, Kind, Node, Origin, Scalar, Table

ORIGIN = Origin(Path("/p/compose.yaml"), "compose.yaml", Path("/p"))


def tree(text: str) -> Node:
    (document,) = parse(text, ORIGIN)
    return document


def value(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [value(item) for item in node.values]
    return {name: value(entry.node) for name, entry in node.entries.items()}


def error(text: str) -> ComposeError:
    with pytest.raises(ComposeError) as caught:
        parse(text, ORIGIN)
    return caught.value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", Kind.NULL),
        ("~", Kind.NULL),
        ("null", Kind.NULL),
        ("true", Kind.BOOLEAN),
        ("FALSE", Kind.BOOLEAN),
        ("80", Kind.INTEGER),
        ("-1", Kind.INTEGER),
        ("0o17", Kind.INTEGER),
        ("0.5", Kind.FLOAT),
        ("1e3", Kind.FLOAT),
        ("no", Kind.STRING),
        ("on", Kind.STRING),
        ("22:22", Kind.STRING),
        ("1_000", Kind.STRING),
        ("2001-01-01", Kind.STRING),
        ("v1", Kind.STRING),
    ],
)
def test_plain_scalars_are_typed_by_yaml_1_2(text: str, kind: Kind) -> None:
    assert kind_of(text) is kind


def test_quoted_and_block_scalars_are_strings() -> None:
    node = tree("a: '80'\nb: \"true\"\nc: |\n  5\nd: !!str 7\ne: ! 8\n")
    assert isinstance(node, Table)
    assert {entry.node.kind for entry in node.entries.values() if isinstance(entry.node, Scalar)} == {Kind.STRING}


def test_marks_count_lines_from_one() -> None:
    node = tree("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert isinstance(node, Table)
    inner = node.entries["a"].node
    assert isinstance(inner, Table)
    assert (node.entries["a"].mark.line, inner.entries["c"].mark.line) == (1, 3)
    items = inner.entries["c"].node
    assert isinstance(items, Items)
    assert [item.mark.line for item in items.values] == [4, 5]


def test_merge_keys_lose_to_what_stands_there_and_to_earlier_sources() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 9\nd: {<<: *a}\n"
    assert value(tree(text)) == {
        "a": {"x": "1", "y": "1"},
        "b": {"y": "2", "z": "2"},
        "c": {"x": "9", "y": "1", "z": "2"},
        "d": {"x": "1", "y": "1"},
    }


def test_a_quoted_merge_key_is_a_key() -> None:
    assert value(tree('"<<": 1')) == {"<<": "1"}


def test_an_anchor_may_be_given_again() -> None:
    assert value(tree("a: &x 1\nb: *x\nc: &x 2\nd: *x\n")) == {"a": "1", "b": "1", "c": "2", "d": "2"}


def test_tags_for_merging_are_kept() -> None:
    node = tree("a: !reset null\nb: !override [1]\nc: !reset {}\n")
    assert isinstance(node, Table)
    assert [entry.node.directive for entry in node.entries.values()] == [
        Directive.RESET,
        Directive.OVERRIDE,
        Directive.RESET,
    ]


def test_empty_documents_are_left_out() -> None:
    assert [value(node) for node in parse("---\n# nothing\n---\na: 1\n---\nb: 2\n", ORIGIN)] == [{"a": "1"}, {"b": "2"}]
    assert parse("# nothing\n", ORIGIN) == ()


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: the key is there twice, first in line 1", 3),
        ("s:\n  w:\n    p: 1\n    p: 2\n", "s.w.p: the key is there twice, first in line 3", 4),
        ("<<: {a: 1}\n<<: {b: 1}\n", "<<: the key is there twice, first in line 1", 2),
        ("a: *b\n", "a: *b refers to no anchor above it", 1),
        ("a: &a\n  b: *a\n", "a.b: *a refers to no anchor above it", 2),
        ("a:\n  - !x 1\n", "a[0]: unknown tag !x", 2),
        ("a: !!binary aGk=\n", "a: unknown tag tag:yaml.org,2002:binary", 1),
        ("a: !x {}\n", "a: unknown tag !x", 1),
        ("a: 1\n? [b]\n: 2\n", "a key that is a list or a mapping", 2),
        ("a:\n  <<: 5\n", "a.<<: takes a mapping or a list of mappings", 2),
        ('a: "x\\0y"\n', "a: a NUL or surrogate character in a value", 1),
        ("a: [1\nb: 2\n", "not valid YAML: did not find expected ',' or ']'", 2),
        ("a: 1\n\tb: 2\n", "not valid YAML: found a tab character that violates indentation", 2),
        ("a: \x07\n", "not valid YAML", 1),
    ],
)
def test_what_is_wrong_is_said_with_key_and_line(text: str, message: str, line: int) -> None:
    found = error(text)
    assert message in str(found)
    assert found.line == line
    assert f"(compose.yaml:{line})" in str(found)


def test_tabs_get_a_hint() -> None:
    assert error("a:\n\tb: 2\n").hint == "YAML is indented with spaces, not tabs"


def test_a_bomb_of_aliases_is_refused_without_being_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "once its aliases are written out" in str(error("\n".join(lines)))


def test_a_bomb_of_merge_keys_is_refused() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(100)) + "}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 100)}]}}" for n in range(1, 5)]
    assert "once its aliases are written out" in str(error("\n".join(lines)))


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000])
def test_depth_is_limited_before_the_stack_is(text: str) -> None:
    assert f"nested more than {DEPTH} levels deep" in str(error(text))


def test_depth_is_limited_through_aliases_too() -> None:
    lines = [f"a0: &a0 {'[' * 40}{']' * 40}"]
    lines += [f"a{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}" for n in range(1, 50)]
    assert f"nested more than {DEPTH} levels deep" in str(error("\n".join(lines)))
