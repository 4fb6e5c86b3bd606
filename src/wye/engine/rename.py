"""rename: an environment under another name. Its bytes, containers and ports stay as they are.

The new name is taken first, with the whole chain behind it, then the old one is given up: a crash in between
leaves both names on the same bytes, and reconcile gives up the old one.
"""

from __future__ import annotations

from dataclasses import replace

from wye.engine import inspect, records
from wye.engine.context import Engine, environment_name
from wye.engine.fork import NameTaken
from wye.engine.views import EnvironmentView
from wye.errors import BadRequest
from wye.model import Verb


def rename(engine: Engine, name: str, new_name: str, *, actor: str) -> EnvironmentView:
    """Raises NotFound, NameTaken."""
    old, new = environment_name(name), environment_name(new_name)
    if old == new:
        raise BadRequest(f"{name!r} has that name already")
    first, second = sorted((old, new))
    with engine.changing(first), engine.changing(second):
        head = records.require(engine, old)
        if records.find(engine, new) is not None:
            raise NameTaken(f"there is an environment {new_name!r} already", hint="choose another name")
        with records.change(engine, Verb.RENAME, new, actor=actor, previous=head.id, old=old) as doing:
            environment = replace(head.environment, name=new)
            engine.ledger.rename(old, head.id, doing.entry(environment))
            engine.doors.rename(old, new)
            engine.supervisor.rename(old, new)
        return inspect.view(engine, environment)
