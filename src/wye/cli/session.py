"""What every command shares: the client, what `--json` changes, how errors and progress are told.

Results go to stdout and nothing else does, so that they can be piped; progress, notices and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from wye.api import faults, wire
from wye.api.caller import Progress
from wye.api.client import Client, connect
from wye.cli import words
from wye.cli.later import later
from wye.cli.progress import Watch
from wye.errors import WyeError

if TYPE_CHECKING:
    from pydantic import BaseModel

_tables = later("tables")

T = TypeVar("T")

INTERRUPTED = 130
_LAYOUT = "\n\t"


class Session:
    """One run of the command line. `typer.Context.obj` everywhere."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.json = False
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Connects when first asked for."""
        if self._client is None:
            self._client = connect(self.address, note=note)
            self._client.while_waiting = None if self.json else _tables
        return self._client

    # ------------------------------------------------------------ results

    def show(self, result: BaseModel, render: Callable[[], object]) -> None:
        """The wire JSON, or what `render` prints."""
        if self.json:
            say(result.model_dump_json())
        else:
            render()

    def show_all(self, results: Sequence[BaseModel], render: Callable[[], object]) -> None:
        """The same for a list."""
        if self.json:
            say(f"[{','.join(each.model_dump_json() for each in results)}]")
        else:
            render()

    def show_each(self, results: Iterable[T], render: Callable[[T], object]) -> None:
        """One line each, as they come: NDJSON, or what `render` prints."""
        for each in results:
            if self.json and isinstance(each, wire.View):
                say(each.model_dump_json())
            else:
                render(each)
            sys.stdout.flush()

    def fail(self, error: WyeError) -> None:
        """Tells it on stderr, and with `--json` also as a document on stdout."""
        red, plain = ("\x1b[1;31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
        note(f"{red}error:{plain} {words.harmless(error.message, keep=_LAYOUT)}")
        if error.hint:
            note(f"hint: {words.harmless(error.hint, keep=_LAYOUT)}")
        if self.json:
            say(faults.encode(error).model_dump_json())

    # ------------------------------------------------------------ what takes long

    def watch(self, verb: str, call: Callable[[Progress], T]) -> T:
        """Calls a verb that tells of its progress, and shows it."""
        with self.going_on(verb), Watch(verb) as watch:
            return call(watch)

    @contextlib.contextmanager
    def going_on(self, verb: str) -> Iterator[None]:
        """For what the daemon finishes even if nobody waits: Ctrl-C only ends the waiting, and this says so."""
        try:
            yield
        except KeyboardInterrupt:
            note(f"{verb} goes on in the daemon; watch it with: wye events -f")
            raise typer.Exit(INTERRUPTED) from None


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """A line of the result, on stdout."""
    sys.stdout.write(f"{text}\n")


def session_of(context: typer.Context) -> Session:
    found = context.obj
    if not isinstance(found, Session):
        raise TypeError("a command ran outside main()")
    return found


# ---------------------------------------------------------------- parameters that many commands have


def _remember_json(context: typer.Context, value: bool) -> bool:
    session_of(context).json = value
    return value


Completions = list[tuple[str, str]]


def _complete(
    context: typer.Context, incomplete: str, find: Callable[[Client], Iterable[tuple[str, str]]]
) -> Completions:
    """For the shell. Never starts a daemon, never complains."""
    try:
        with connect(context.find_root().params.get("address"), may_start=False) as client:
            return [each for each in find(client) if each[0].startswith(incomplete)]
    except WyeError:
        return []


def complete_environments(context: typer.Context, incomplete: str) -> Completions:
    def find(client: Client) -> Iterator[tuple[str, str]]:
        for each in client.environments():
            yield each.name, f"fork of {each.source}" if each.source else f"project {each.project}"

    return _complete(context, incomplete, find)


def complete_services(context: typer.Context, incomplete: str) -> Completions:
    def find(client: Client) -> Iterator[tuple[str, str]]:
        for each in client.environment(context.params.get("environment") or "production").services:
            yield each.service, words.harmless(each.image)

    return _complete(context, incomplete, find)


def complete_entries(context: typer.Context, incomplete: str) -> Completions:
    """Of production, the newest ones."""

    def find(client: Client) -> Iterator[tuple[str, str]]:
        for each in client.log("production").entries:
            yield words.short(each.id), words.harmless(f"{each.verb} {words.moment(each.at)} {each.message}".strip())

    return _complete(context, incomplete, find)


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.", callback=_remember_json)]
Environment = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT", help="Name of an environment.", autocompletion=complete_environments)
]
Fork = Annotated[str, typer.Argument(metavar="FORK", help="Name of a fork.", autocompletion=complete_environments)]
AnyEnvironment = Annotated[
    str | None, typer.Argument(metavar="ENVIRONMENT", help="Only this one.", autocompletion=complete_environments)
]
Environments = Annotated[
    list[str],
    typer.Argument(metavar="ENVIRONMENT", help="Names of environments.", autocompletion=complete_environments),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="An environment or a revision; else what it was forked from.",
        autocompletion=complete_environments,
    ),
]
Into = Annotated[
    str | None,
    typer.Option("--into", help="An environment; else what it was forked from.", autocompletion=complete_environments),
]
Entry = Annotated[
    str,
    typer.Argument(metavar="ENTRY", help="An entry of a ledger; a prefix is enough.", autocompletion=complete_entries),
]
Services = Annotated[list[str] | None, typer.Argument(metavar="SERVICE", help="Services; none named: all.")]
