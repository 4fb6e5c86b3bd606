"""Secrets and configs → `File`s with their content.

Content comes from a file, a variable, or (configs) the compose file itself, and is read now, so that a fork has what
its source had. Only those that a service uses are read. One that is kept elsewhere (`external`) is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from wye.compose.at import At, Fields
from wye.compose.files import read_bytes
from wye.compose.findings import Findings
from wye.compose.keys import fields, suggest
from wye.compose.mounts import is_external, permission
from wye.model import File

_SOURCES = ("file", "environment", "content")
_KEYS = ("name", "external", "labels", "driver", "driver_opts", "template_driver", *_SOURCES)


@dataclass(frozen=True, slots=True)
class Injected:
    """The secrets or the configs at the top of the file. `word` is "secret" or "config"."""

    word: str
    top: Mapping[str, At]
    findings: Findings

    def read(self, at: At | None) -> tuple[File, ...]:
        """The value of a service's `secrets` or `configs`, each target once. Raises ComposeError."""
        files: dict[str, File] = {}
        for item in at.items() if at is not None else ():
            file = self._file(item)
            if file.target in files:
                raise item.error(f"a second file at {file.target}")
            files[file.target] = file
        return tuple(files.values())

    def _file(self, item: At) -> File:
        if item.is_text:
            return self._make(item, item.filled(), Fields(item, {}))
        known = fields(item, ("source", "target", "uid", "gid", "mode"), self.findings)
        return self._make(item, known.required("source").filled(), known)

    def _make(self, item: At, name: str, known: Fields) -> File:
        if name not in self.top:
            hint = suggest(name, self.top) or f"add it at the top: {self.word}s: {{{name}: {{file: ./{name}}}}}"
            raise item.error(f"there is no {self.word} {name}", hint=hint)
        home = "/run/secrets/" if self.word == "secret" else "/"
        target = known.filled("target") or name
        mode = known.read("mode", permission)
        if ".." in target.split("/"):
            raise item.child("target").error('must not contain ".."')
        return File(
            name=name,
            target=target if target.startswith("/") else f"{home}{target}",
            mode=0o444 if mode is None else mode,
            uid=known.read("uid", _identity) or 0,
            gid=known.read("gid", _identity) or 0,
            secret=self.word == "secret",
            content=base64.b64encode(self._content(self.top[name])).decode(),
        )

    def _content(self, at: At) -> bytes:
        known = fields(at, _KEYS, self.findings)
        external = known.get("external")
        if external is not None and is_external(external):
            hint = "give it a file: or environment: of its own"
            raise external.error(f"the {self.word} is kept outside, where wye cannot read it", hint=hint)
        given = [name for name in _SOURCES if known.get(name) is not None]
        if self.word == "secret" and "content" in given:
            raise known.required("content").error("a secret has no content", hint="use file: or environment:")
        if len(given) != 1:
            raise at.error("needs exactly one of file, environment" + (", content" if self.word == "config" else ""))
        source = known.required(given[0])
        if given[0] == "content":
            return source.string().encode()
        if given[0] == "file":
            path = source.node.mark.origin.directory / source.filled()
            return read_bytes(path, source, what="the file")
        value = source.node.mark.origin.variables.get(source.filled())
        if value is None:
            hint = f"set it in the shell or in .env: {source.string()}=..."
            raise source.error(f"the variable {source.string()} is not set", hint=hint)
        return value.encode()


def _identity(at: At) -> int:
    """A user or group id, which compose writes as a string."""
    at.string()
    return at.integer(0, (1 << 31) - 1)
