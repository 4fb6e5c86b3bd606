"""What differs between two specs, as paths that people know from their compose files. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from wye.engine.views import SpecChange
from wye.model import Spec


def changes(before: Spec, after: Spec) -> tuple[SpecChange, ...]:
    """Leaf by leaf, sorted by path. The contents of secrets are never shown."""
    old, new = _leaves(before), _leaves(after)
    return tuple(
        SpecChange(path=path, before=old.get(path), after=new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def _leaves(spec: Spec) -> dict[str, str]:
    tree: dict[str, Any] = msgspec.to_builtins(spec)
    for service in tree["services"].values():
        for key in ("mounts", "files", "ports"):
            service[key] = {_name(key, item): item for item in service[key]}
        for name, file in service["files"].items():
            if file.pop("secret", False):
                service["files"][name] = {**file, "content": f"(secret {_fingerprint(file['content'])})"}
    found: dict[str, str] = {}
    _walk(tree, "", found)
    return found


def _fingerprint(content: str) -> str:
    """Tells that a secret has changed; too short to find it by guessing."""
    return hashlib.sha256(content.encode()).hexdigest()[:4]


def _name(key: str, item: dict[str, Any]) -> str:
    if key == "ports":
        return f"{item['container']}/{item['protocol']}"
    return str(item["target"])


def _walk(node: Any, path: str, found: dict[str, str]) -> None:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            _walk(value, f"{path}.{key}" if path else str(key), found)
    elif node not in (None, [], {}, ""):
        found[path] = json.dumps(node, sort_keys=True, ensure_ascii=False)
