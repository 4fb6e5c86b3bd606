"""How a merge, revert or update ended: what was applied, steps and their times, checks, conflicts, and what to do now.

The same parts show a rehearsal, and the evidence that an entry keeps of its merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer
from pydantic import Field, ValidationError, field_validator
from rich.table import Table
from rich.text import Text

from wye.api import wire
from wye.cli import resolutions, stores, words
from wye.cli.session import Session, note
from wye.cli.tables import Shown, page, table
from wye.errors import CheckFailed

_VALUE_CHARACTERS = 40
_DETAIL_CHARACTERS = 200
_PART, _WHOLE = ": ", "apply"
_OUTPUT_LINES = 100
"""Of a failed check. `--json` has all."""


class _Changes(wire.View):
    """By place, what fits a screen. Files are told by `applied`."""

    databases: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Evidence(wire.View):
    """What is known of what an entry keeps of its merge. The entry itself tells `source` and `into`."""

    source: str = ""
    into: str = ""
    changes: _Changes = _Changes()
    checks: tuple[wire.CheckView, ...] = ()
    applied: dict[str, int] = Field(default_factory=dict)
    restarted: tuple[str, ...] = ()
    steps: dict[str, float] = Field(default_factory=dict)

    @field_validator("steps", mode="before")
    @classmethod
    def _in_order(cls, given: Any) -> Any:
        """Pairs in their order; what was kept long ago is a mapping in the order of its names."""
        return dict(given) if isinstance(given, list) and all(_is_pair(each) for each in given) else given


def _is_pair(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and isinstance(given[0], str)


def finish(session: Session, result: wire.MergeResult, verb: str, retry: str, *, rehearsal: bool = False) -> None:
    """Shows it and exits as it ended. `verb`: "merge"; `retry`: the command line that `--resolve FILE` is added to."""
    session.show(result, lambda: page(*lines(result, verb, rehearsal=rehearsal)))
    if not session.json:
        for notice in result.notices:
            note(f"note: {words.harmless(notice)}")
        for line in advice(result, verb, retry):
            note(line)
    if refused(result):
        raise typer.Exit(CheckFailed.exit_code)


def refused(result: wire.MergeResult) -> bool:
    """Whether conflicts or checks stand in the way."""
    return bool(result.conflicts) or not all(check.passed for check in result.checks)


def lines(result: wire.MergeResult, verb: str, *, rehearsal: bool = False) -> Iterator[Shown]:
    if result.conflicts:
        yield conflict_table(result.conflicts)
        yield ""
    yield from check_lines(result.checks, all_output=False)
    if result.merged:
        yield from _applied(result.applied, result.restarted)
    if result.steps:
        yield step_table(result.steps)
        yield ""
    yield ending(result, verb, rehearsal=rehearsal)


def ending(result: wire.MergeResult, verb: str, *, rehearsal: bool = False) -> Text:
    """One line that says it all."""
    if verb == "update":
        subject = f"update of {result.into} from {result.source}"
    else:
        subject = f"{verb} of {result.source} {'in' if verb == 'revert' else 'into'} {result.into}"
    if result.merged:
        entry = f": entry {words.short(result.entry)}" if result.entry else ""
        return Text(words.harmless(f"{subject} is done{entry}, in {words.duration(total(result.steps))}"), "green")
    reasons = []
    if result.conflicts:
        reasons.append(words.count(len(result.conflicts), "conflict"))
    if failed := [check for check in result.checks if not check.passed]:
        reasons.append(f"{len(failed)} of {words.count(len(result.checks), 'check')} failed")
    if reasons:
        told = f"{subject}: {' and '.join(reasons)}; {result.into} is as it was"
        return Text(words.harmless(told), "red")
    if rehearsal:
        passed = f", and {words.count(len(result.checks), 'check')} passed" if result.checks else ""
        return Text(words.harmless(f"{subject} was rehearsed: nothing is in conflict{passed}"), "green")
    return Text(words.harmless(f"{subject}: there was nothing to do"))


def advice(result: wire.MergeResult, verb: str, retry: str) -> Iterator[str]:
    """What to do next, if there is something."""
    if result.merged and result.entry and verb != "update":
        yield f"hint: take it back with: wye revert {words.short(result.entry)}"
    if not result.conflicts:
        return
    open_to_choice = [conflict for conflict in result.conflicts if conflict.choices]
    if len(open_to_choice) < len(result.conflicts):
        yield "hint: what has no choices must be changed on one of the sides; then try again"
    if open_to_choice:
        yield "hint: write down what to take, a line for each, for example in resolve.yaml:"
        for conflict, example in zip(open_to_choice, _examples(open_to_choice), strict=False):
            yield f"    {conflict.id}: {example}"
        yield "    default: ours        # for all others"
        yield f"  and then: {retry} --resolve resolve.yaml"
        if verb == "merge":
            listing = retry.replace("merge", "conflicts", 1)
            yield f"  or have a file written to fill in: {listing} --template resolve.yaml"


def _examples(conflicts: Sequence[wire.ConflictView]) -> list[str]:
    """What can be written for the first ones, one of each sort."""
    wanted = {"theirs": "theirs", "value": "{value: ...}", "ours": "ours"}
    found: list[str] = []
    for conflict in conflicts[: len(wanted)]:
        sides = [side for side in wanted if side in conflict.choices and (side != "value" or conflict.column)]
        possible = sides or list(conflict.choices)
        side = possible[len(found) % len(possible)]
        found.append(wanted.get(side, words.harmless(side)))
    return found


# ---------------------------------------------------------------- parts


def conflict_table(conflicts: Sequence[wire.ConflictView]) -> Table:
    """Values are JSON, as a resolution file takes them."""
    heads = ("ID", "KIND", "PLACE", "KEY", "COLUMN", "BASE", "OURS", "THEIRS", "CHOICES", "WHY")
    return table(
        heads,
        (
            (
                conflict.id,
                conflict.kind,
                conflict.place,
                words.cut(resolutions.key_of(conflict), _DETAIL_CHARACTERS),
                conflict.column,
                *_values(conflict),
                " ".join(conflict.choices) or "none",
                words.cut(conflict.detail, _DETAIL_CHARACTERS),
            )
            for conflict in conflicts
        ),
    )


def _values(conflict: wire.ConflictView) -> tuple[str, str, str]:
    """Nothing where there are none: a refusal names what cannot be merged."""
    sides = (conflict.base, conflict.ours, conflict.theirs)
    if sides == (None, None, None):
        return "", "", ""
    base, ours, theirs = (resolutions.shown(side, _VALUE_CHARACTERS) for side in _differing(sides))
    return base, ours, theirs


def _differing(sides: Sequence[Any]) -> list[Any]:
    """Of rows and of states, what is not the same on all sides that have one: the rest is in the template."""
    mappings = [side for side in sides if isinstance(side, dict)]
    kept = {key for side in mappings for key in side if any(other.get(key) != side[key] for other in mappings)}
    if not kept:
        return list(sides)
    return [{k: v for k, v in side.items() if k in kept} if isinstance(side, dict) else side for side in sides]


def check_lines(checks: Sequence[wire.CheckView], *, all_output: bool) -> Iterator[Shown]:
    """`all_output`: of those that passed too."""
    for check in checks:
        mark, style = ("✓", "green") if check.passed else ("✗", "red")
        yield Text.assemble((f"{mark} ", style), words.harmless(check.name), f"  {words.duration(check.seconds)}")
        if all_output or not check.passed:
            yield from _output(check.output, None if all_output else _OUTPUT_LINES)
    if checks:
        yield ""


def _output(output: str, limit: int | None) -> Iterator[Text]:
    found = output.rstrip("\n").split("\n") if output.strip() else []
    left_out = 0 if limit is None else max(0, len(found) - limit)
    if left_out:
        yield Text(f"    ... {words.count(left_out, 'line')} before: --json", "dim")
    for line in found[left_out:]:
        yield Text(f"    {words.harmless(line.removesuffix(chr(13)), keep=chr(9))}")


def _applied(applied: Mapping[str, int], restarted: Sequence[str]) -> Iterator[Shown]:
    if applied:
        yield table(("APPLIED", "CHANGES"), ((place, f"{number:,}") for place, number in applied.items()))
        yield ""
    if restarted:
        yield Text(words.harmless(f"restarted: {', '.join(restarted)}"))
        yield ""


def step_table(steps: Mapping[str, float]) -> Table:
    """What applying consisted of ("postgres db: commit") is below it."""
    rows: list[tuple[str, str]] = []
    parts = [(f"  {step}", words.duration(seconds)) for step, seconds in steps.items() if _PART in step]
    for step, seconds in steps.items():
        if _PART not in step:
            rows.append((step, words.duration(seconds)))
        if step == _WHOLE:
            rows += parts
    return table(("STEP", "TIME"), rows if _WHOLE in steps else rows + parts)


def total(steps: Mapping[str, float]) -> float:
    return sum(seconds for step, seconds in steps.items() if _PART not in step)


# ---------------------------------------------------------------- evidence


def evidence_lines(evidence: Mapping[str, Any]) -> Iterator[Shown]:
    """What an entry keeps of its merge. What is not known here is shown as JSON."""
    try:
        known, names = _Evidence.model_validate(evidence), set(_Evidence.model_fields)
    except ValidationError:
        known, names = _Evidence(), set()
    rest = {key: value for key, value in evidence.items() if key not in names and value not in (None, "", [], {})}
    for key, value in rest.items():
        yield Text.assemble((f"{words.harmless(key):<12} ", "bold"), words.harmless(_plain(value)))
    if rest:
        yield ""
    for place, stat in known.changes.databases.items():
        yield from stores.stat_lines(wire.StoreChange(place=place, kind=place.split(" ")[0], service="", stat=stat))
    if known.changes.databases:
        yield ""
    yield from check_lines(known.checks, all_output=True)
    yield from _applied(known.applied, known.restarted)
    if known.steps:
        yield step_table(known.steps)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
