"""An override laid over what it overrides: the rules of compose for several files, `extends` and `include`.

Mappings merge key by key, lists are joined, anything else is replaced. The exceptions are the tables below: short
forms are first written as mappings so that they can merge, some lists hold one entry per identity (a volume's
target), and commands are replaced whole. `!override` replaces and `!reset` removes, whatever the rule.
"""

from __future__ import annotations

from collections.abc import Callable

from wye.compose.nodes import (
    ComposeError,
    Directive,
    Entry,
    Items,
    Kind,
    Node,
    Scalar,
    Table,
    describe,
    is_null,
)

_SERVICE = ("services", "*")
_PAIRS = {
    (*_SERVICE, "environment"), (*_SERVICE, "labels"), (*_SERVICE, "annotations"), (*_SERVICE, "sysctls"),
    (*_SERVICE, "build", "args"), (*_SERVICE, "build", "labels"), (*_SERVICE, "build", "additional_contexts"),
    (*_SERVICE, "deploy", "labels"), ("networks", "*", "labels"), ("volumes", "*", "labels"),
    ("secrets", "*", "labels"), ("configs", "*", "labels"),
}  # fmt: skip
_REPLACED = {(*_SERVICE, "command"), (*_SERVICE, "entrypoint"), (*_SERVICE, "healthcheck", "test")}
_LISTED = {(*_SERVICE, key) for key in ("env_file", "dns", "dns_search", "tmpfs", "label_file")}


def merge(under: Node, over: Node, path: tuple[str, ...] = ()) -> Node:
    """`over` laid over `under`. Raises ComposeError where their kinds do not fit."""
    rule = _rule(path)
    if over.directive is Directive.OVERRIDE or rule in _REPLACED:
        return settle(over)
    under, over = _canonical(rule, under), _canonical(rule, over)
    if is_null(under):
        return over
    if is_null(over) and not isinstance(under, Scalar):
        return under
    if isinstance(under, Table) and isinstance(over, Table):
        return _merge_tables(under, over, path)
    if isinstance(under, Items) and isinstance(over, Items):
        return _join(under, over, rule)
    if isinstance(under, Scalar) and isinstance(over, Scalar):
        return over
    if _is_either_form(rule):
        return over
    message = f"is {describe(over)} here and {describe(under)} in {under.mark}"
    raise ComposeError(message, over.mark, key=".".join(path), hint="!override replaces the whole value")


def settle(node: Node) -> Node:
    """`node` without what its own `!reset` removes: for a file that overrides nothing."""
    if isinstance(node, Table):
        entries = {
            name: Entry(mark, settle(value))
            for name, (mark, value) in node.entries.items()
            if value.directive is not Directive.RESET
        }
        return Table(entries, node.mark, Directive.NONE, node.size)
    if isinstance(node, Items):
        values = tuple(settle(value) for value in node.values if value.directive is not Directive.RESET)
        return Items(values, node.mark, Directive.NONE, node.size)
    return node


def _merge_tables(under: Table, over: Table, path: tuple[str, ...]) -> Table:
    entries = dict(under.entries)
    for name, (mark, value) in over.entries.items():
        if value.directive is Directive.RESET:
            entries.pop(name, None)
        elif name in entries:
            entries[name] = Entry(mark, merge(entries[name].node, value, (*path, name)))
        else:
            entries[name] = Entry(mark, settle(value))
    return Table(entries, over.mark, under.directive, under.size + over.size)


def _join(under: Items, over: Items, rule: tuple[str, ...]) -> Items:
    identity = _identity(rule)
    kept: dict[str, Node] = {}
    for value in (*under.values, *over.values):
        kept[identity(value)] = value
    return Items(tuple(kept.values()), over.mark, under.directive, under.size + over.size)


def _rule(path: tuple[str, ...]) -> tuple[str, ...]:
    """`path` with the name of the service, network, volume, secret or config as `*`."""
    return (path[0], "*", *path[2:]) if len(path) > 1 else path


def _is_either_form(rule: tuple[str, ...]) -> bool:
    """Keys that take a scalar or a mapping and are replaced as a whole when the forms differ."""
    return rule[:3] == (*_SERVICE, "ulimits") or rule[2:] == ("external",) or rule[:3] == (*_SERVICE, "gpus")


def _canonical(rule: tuple[str, ...], node: Node) -> Node:
    """The mergeable form of a short form."""
    if rule in _PAIRS and isinstance(node, Items):
        return _table(node, _pair)
    if rule == (*_SERVICE, "depends_on") and isinstance(node, Items):
        return _table(node, _started)
    if rule == (*_SERVICE, "networks") and isinstance(node, Items):
        return _table(node, lambda item: (item.text, _null(item)))
    if rule == (*_SERVICE, "build") and isinstance(node, Scalar) and not is_null(node):
        return Table({"context": Entry(node.mark, node)}, node.mark)
    if rule in _LISTED and isinstance(node, Scalar) and not is_null(node):
        return Items((node,), node.mark, node.directive)
    if rule == (*_SERVICE, "extra_hosts") and isinstance(node, Table):
        return _host_list(node)
    return node


def _table(items: Items, entry: Callable[[Scalar], tuple[str, Node]]) -> Node:
    """A list of strings as a mapping; anything else stays, for its reader to refuse."""
    entries: dict[str, Entry] = {}
    for item in items.values:
        if not isinstance(item, Scalar) or item.kind is not Kind.STRING:
            return items
        name, value = entry(item)
        entries[name] = Entry(item.mark, value)
    return Table(entries, items.mark, items.directive, items.size)


def _null(item: Scalar) -> Scalar:
    return Scalar("", Kind.NULL, item.mark)


def _pair(item: Scalar) -> tuple[str, Node]:
    name, equals, value = item.text.partition("=")
    return name, Scalar(value, Kind.STRING, item.mark) if equals else _null(item)


def _started(item: Scalar) -> tuple[str, Node]:
    condition = Scalar("service_started", Kind.STRING, item.mark)
    return item.text, Table({"condition": Entry(item.mark, condition)}, item.mark)


def _host_list(table: Table) -> Items:
    values: list[Node] = []
    for name, (_, node) in table.entries.items():
        for address in node.values if isinstance(node, Items) else (node,):
            text = address.text if isinstance(address, Scalar) else ""
            values.append(Scalar(f"{name}={text}", Kind.STRING, address.mark))
    return Items(tuple(values), table.mark, table.directive, table.size)


def _identity(rule: tuple[str, ...]) -> Callable[[Node], str]:
    """What makes two entries of a list the same one, of which the later stays."""
    key = rule[2:]
    if key == ("volumes",):
        return _mount_identity
    if key in (("secrets",), ("configs",)):
        return lambda node: _entry_text(node, "target") or _entry_text(node, "source") or fingerprint(node)
    if key == ("env_file",):
        return lambda node: _entry_text(node, "path") or fingerprint(node)
    return fingerprint


def _mount_identity(node: Node) -> str:
    if isinstance(node, Scalar):
        parts = node.text.split(":")
        return (parts[1] if len(parts) > 1 else parts[0]).rstrip("/")
    return _entry_text(node, "target").rstrip("/") or fingerprint(node)


def _entry_text(node: Node, name: str) -> str:
    if isinstance(node, Table) and name in node.entries:
        value = node.entries[name].node
        return value.text if isinstance(value, Scalar) else ""
    return ""


def fingerprint(node: Node) -> str:
    """A text that is equal exactly for equal nodes."""
    if isinstance(node, Scalar):
        return f"{node.kind.value}:{node.text!r}" if node.kind is not Kind.STRING else repr(node.text)
    if isinstance(node, Items):
        return f"[{','.join(fingerprint(value) for value in node.values)}]"
    return f"{{{','.join(f'{name!r}:{fingerprint(entry.node)}' for name, entry in sorted(node.entries.items()))}}}"
