"""What a merge keeps to be taken back: as it is, whatever somebody has called a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from wye.engine.undoing import keep_paths, kept_paths
from wye.host import Host
from wye.model import EnvironmentId, IntentId


def test_paths_of_any_name(tmp_path: Path) -> None:
    volumes = SimpleNamespace(environment_path=lambda _: tmp_path)
    engine = cast(Any, SimpleNamespace(host=Host(), volumes=volumes))
    paths = {"volumes/data/bad\udcffname", "volumes/data/two\nlines", 'volumes/data/"', "volumes/data/ü"}
    keep_paths(engine, EnvironmentId("e"), IntentId("i"), paths)
    assert kept_paths(tmp_path, IntentId("i")) == paths
