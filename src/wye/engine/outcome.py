"""What a merge has come to so far, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wye.engine import comparing
from wye.engine.timing import Steps
from wye.engine.views import CheckView, MergeResult
from wye.merge.conflict import Conflict as MergeConflict


@dataclass(slots=True)
class Outcome:
    """What a merge has come to so far. `steps` are timed; the rest is filled in as it is known."""

    source: str
    into: str
    steps: Steps
    rehearsed: bool = False
    brings_something: bool = False
    """Whether the target lacks anything of it."""
    merged: bool = False
    entry: str = ""
    conflicts: tuple[MergeConflict, ...] = ()
    checks: tuple[CheckView, ...] = ()
    applied: dict[str, int] = field(default_factory=dict)
    restarted: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def result(self) -> MergeResult:
        return MergeResult(
            source=self.source,
            into=self.into,
            merged=self.merged,
            rehearsed=self.rehearsed,
            entry=self.entry,
            conflicts=tuple(comparing.conflict_view(each) for each in self.conflicts),
            checks=self.checks,
            applied=self.applied,
            restarted=self.restarted,
            steps=self.steps.taken,
            notices=self.notices,
        )

    @property
    def is_clean(self) -> bool:
        """No conflict, and every check passed."""
        return not self.conflicts and all(check.passed for check in self.checks)

    def evidence(self, changes: dict[str, Any]) -> dict[str, Any]:
        """What is kept with the entry: enough to see later what was merged, and why it was thought safe."""
        return {
            "source": self.source,
            "into": self.into,
            "changes": changes,
            "applied": self.applied,
            "restarted": list(self.restarted),
            # A list, for a mapping is stored in the order of its names.
            "steps": [[name, round(seconds, 6)] for name, seconds in self.steps.taken.items()],
            "checks": [
                {"name": each.name, "passed": each.passed, "seconds": each.seconds, "output": each.output}
                for each in self.checks
            ],
        }
