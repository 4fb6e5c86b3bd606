"""What is worth telling the user about a file that was accepted.

`refuse` is where strict and lenient part: strict raises, lenient notes the same sentence and goes on without
the key. Nothing is ever left out silently.
"""

from __future__ import annotations

from dataclasses import dataclass

from wye.compose.at import At


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One line for the user. `kind` is "warning" or "import"; `key` is a path like `services.web.ports[0]`."""

    kind: str
    key: str
    message: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.key}: {self.message} ({self.file}:{self.line})"


class Findings:
    """Collects the notices of one load, each once."""

    def __init__(self, *, lenient: bool) -> None:
        self.lenient = lenient
        self._notices: dict[Notice, None] = {}

    @property
    def notices(self) -> tuple[Notice, ...]:
        return tuple(self._notices)

    def warn(self, at: At, message: str) -> None:
        self._note("warning", at, message)

    def imported(self, at: At, message: str) -> None:
        self._note("import", at, message)

    def refuse(self, at: At, message: str, *, hint: str | None = None) -> None:
        """Raises ComposeError; when lenient, notes that `at` is left out instead."""
        if not self.lenient:
            raise at.error(message, hint=hint)
        self.warn(at, f"{message}; left out")

    def _note(self, kind: str, at: At, message: str) -> None:
        notice = Notice(kind=kind, key=at.key, message=message, file=at.mark.origin.shown, line=at.mark.line)
        self._notices[notice] = None
