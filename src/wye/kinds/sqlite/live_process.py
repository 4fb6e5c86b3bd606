"""The process that has live databases open, for `live`: it reads a question a line, and answers each with a line.

It has no state but open transactions, and ends, rolling them back, when its input does. What kills it kills nobody
else.

usage: python -m wye.kinds.sqlite.live_process DESCRIPTOR ROOT
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from wye.errors import WyeError
from wye.host import Host
from wye.kinds.sqlite.apply import Application, merged, take_back
from wye.kinds.sqlite.database import DatabaseFailed
from wye.kinds.sqlite.live import Answered, Asked, Commit, Done, Failed, Merge, Merged, TakeBack
from wye.merge.conflict import Decisions


class _Databases:
    def __init__(self, root: Path, held: ExitStack) -> None:
        self._root = root
        self._held = held
        self._open: dict[str, Application] = {}

    def answer(self, asked: Asked) -> Answered:
        try:
            match asked:
                case Merge():
                    return self._merge(asked)
                case Commit(path):
                    self._open[path].commit()
                    return Done()
                case TakeBack(place, path, inverse, rules):
                    return Done(take_back(Host(), place, self._root, path, inverse, rules))
        except WyeError as error:
            return Failed(error.code, error.message, error.hint)
        except OSError as error:
            return Failed(DatabaseFailed.code, f"{asked.path} cannot be opened: {error.strerror}")

    def _merge(self, asked: Merge) -> Merged:
        given = Decisions(asked.resolutions)
        application = self._held.enter_context(
            merged(Host(), asked.place, self._root, asked.path, asked.found, given, asked.rules)
        )
        self._open[asked.path] = application
        return Merged(application.conflicts, application.inverse)


def main(descriptor: int, root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    decoder = msgspec.json.Decoder(Merge | Commit | TakeBack)
    with ExitStack() as held, socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
        databases = _Databases(root, held)
        for line in stream:
            stream.write(msgspec.json.encode(databases.answer(decoder.decode(line))) + b"\n")
            stream.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # somebody waits for the end, and to tear the modules down takes as long as to load them
