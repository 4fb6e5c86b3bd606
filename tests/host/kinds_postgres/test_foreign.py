"""Files that somebody put into the data directory: no row, no setting that is compared, and not lost in silence."""

from __future__ import annotations

from typing import Any

import pytest
from tests.host.kinds_postgres.conftest import DATA

from wye.merge.refused import Refused

pytestmark = pytest.mark.host


@pytest.mark.parametrize("name", ["conf.d/more.conf", "server.key", "scripts/archive.sh"])
def test_a_file_in_the_data_directory_is_refused_by_name(rig: Any, name: str) -> None:
    production = rig.create()
    production.run("postgres", "create table t (i int)", path="public")
    fork = rig.fork(production)
    path = rig.pool.environment_path(fork.id) / DATA / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("work_mem = '8MB'\n")
    try:
        with pytest.raises(Refused) as refused:
            rig.diff(fork)
        assert [(each.kind, each.key) for each in refused.value.conflicts] == [("foreign-file", (name,))]
    finally:
        fork.discard()
        production.discard()


def test_where_the_server_keeps_its_logs_is_its_own(rig: Any) -> None:
    production = rig.create()
    fork = rig.fork(production)
    logs = rig.pool.environment_path(fork.id) / DATA / "journal"
    logs.mkdir()
    (logs / "today").write_text("LOG: ...\n")
    try:
        with pytest.raises(Refused):
            rig.diff(fork)
        fork.run("postgres", "alter system set log_directory = 'journal'")
        fork.run("postgres", "select pg_reload_conf()")
        with pytest.raises(Refused) as refused:
            rig.diff(fork)
        assert [each.kind for each in refused.value.conflicts] == ["server-settings"]
    finally:
        fork.discard()
        production.discard()
