"""Tables for people. Cells are plain text: what comes from an environment is never read as markup, and its control
characters are shown, not sent to the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.pager import SystemPager
from rich.table import Table
from rich.text import Text

from wye.cli import terminal, words

Cell = str | Text
Shown = Table | Text | str

_TRAILING = re.compile(r" +$", re.MULTILINE)

_WHOLE = {"ENTRY", "REVISION", "ID"}
"""Columns of what somebody copies, which is not broken in two where a terminal is narrow."""

_COLOURS = {
    "healthy": "green",
    "running": "green",
    "completed": "green",
    "ok": "green",
    "created": "green",
    "added": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "changed": "yellow",
    "modified": "yellow",
    "warning": "yellow",
    "unhealthy": "red",
    "exited": "red",
    "removed": "red",
    "failure": "red",
    "asleep": "blue",
    "stopped": "dim",
    "unchanged": "dim",
}


def coloured(text: str, word: str | None = None) -> Text:
    """`text` in the colour of a state; `word` names the state if `text` says more."""
    return Text(words.harmless(text), style=_COLOURS.get(word or text.split(" ", maxsplit=1)[0], ""))


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Columns that are empty in every row are left out."""
    body = [[cell if isinstance(cell, Text) else Text(words.harmless(cell)) for cell in row] for row in rows]
    used = [index for index in range(len(heads)) if any(row[index].plain for row in body)]
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_edge=False)
    for index in used:
        made.add_column(heads[index], no_wrap=index == 0 or heads[index] in _WHOLE, overflow="fold")
    for row in body:
        made.add_row(*(row[index] for index in used))
    return made


def show(*what: Shown) -> None:
    """Prints to stdout; as wide as needed where that is no terminal. No line ends in spaces."""
    sys.stdout.write(_text(what))


def page(*what: Shown) -> None:
    """The same; what is longer than the terminal goes through $PAGER or less."""
    text = _text(what)
    pager = _pager() if sys.stdout.isatty() and text.count("\n") >= terminal.size()[0] else None
    if pager is None:
        sys.stdout.write(text)
        return
    # The pager of rich is pydoc's, which heeds MANPAGER first; less shows colours if it is told to, as git tells it.
    os.environ["PAGER"] = os.environ["MANPAGER"] = pager
    os.environ.setdefault("LESS", "FRX")
    SystemPager().show(text)


def _pager() -> str | None:
    """None: the user wants none, or there is none."""
    wanted = os.environ.get("PAGER")
    if wanted is not None:
        return None if wanted.strip() in ("", "cat") else wanted
    return "less" if shutil.which("less") else None


def _text(what: Iterable[Shown]) -> str:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    with console.capture() as captured:
        for each in what:
            console.print(Text(each) if isinstance(each, str) else each)
    return _TRAILING.sub("", captured.get())
