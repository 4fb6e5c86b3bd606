"""The daemon on a host that dies at one label, once a file says that it may.

usage: faulty_daemon.py ARMED_FILE FAULT     FAULT as in FaultyHost.from_text: "kill:fork:snapshot", "record:/path"
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from wye.daemon import config, main
from wye.testing.faulty_host import FaultyHost

ARMED = Path(sys.argv[1])


class ArmedHost(FaultyHost):
    """Counts and breaks only while the file is there: what the daemon does at its start is not the verb under test."""

    def _reached(self, label: str, *, effect: bool = False) -> bool:
        return ARMED.exists() and super()._reached(label, effect=effect)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    sys.exit(main.run(config.from_process(), ArmedHost.from_text(sys.argv[2])))
