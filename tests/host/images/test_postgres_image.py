"""wye/postgres does what the official image has taught people, and initialises wholly or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from wye.host import ProgramFailed

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]

# Starts the database as a container would, runs $1 once it answers on TCP, and stops it with the stop signal.
SERVE = """
docker-entrypoint.sh ${COMMAND-postgres} > /tmp/log 2>&1 &
server=$!
for _ in $(seq 400); do
  pg_isready -q -h 127.0.0.1 -U x -d postgres && break
  kill -0 $server 2>/dev/null || { cat /tmp/log; wait $server; exit; }
  sleep 0.02
done
export PGHOST=127.0.0.1 PGUSER=${POSTGRES_USER-postgres} PGDATABASE=${POSTGRES_DB-${POSTGRES_USER-postgres}}
bash -c "$1"
kill -INT $server; wait $server; echo "ended: $?"
"""
QUERY = "psql -XAtc "
PASSWORD = {"POSTGRES_PASSWORD": 'it\'s "secret" $x'}


def test_user_password_and_database(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", env={**PASSWORD, "POSTGRES_USER": "app", "POSTGRES_DB": "my shop"})
    output = container.run(
        SERVE,
        f'export PGPASSWORD="$POSTGRES_PASSWORD"; {QUERY} "select current_user, current_database()"; '
        f'{QUERY} "show server_encoding"; {QUERY} "select left(rolpassword, 5) from pg_authid"; '
        'id -u postgres; stat -c "%u %a" $PGDATA; ls -A $PGDATA | grep ^[.]; '
        "tail -1 $PGDATA/pg_hba.conf; grep ^Uid /proc/$(head -1 $PGDATA/postmaster.pid)/status",
    )
    assert "app|my shop" in output
    assert "UTF8" in output
    assert output[output.index("999") + 1] == "999 700"
    assert "SCRAM" in output
    assert "host all all all scram-sha-256" in output
    assert any(line.split() == ["Uid:", "999", "999", "999", "999"] for line in output)
    assert not any(line.startswith(".") for line in output)
    assert output[-1] == "ended: 0"


def test_a_second_start_keeps_what_is_there_and_needs_no_settings(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", env=PASSWORD)
    container.run(SERVE, 'PGPASSWORD="$POSTGRES_PASSWORD" psql -c "create table kept as select 7 as n"')
    container.env.clear()
    output = container.run(SERVE, f"PGHOST=/var/run/postgresql {QUERY} 'select n from kept'; cat /tmp/log")
    assert "7" in output
    assert not any("initdb" in line for line in output)


def test_scripts_run_once_in_order(inside: Callable[..., Any]) -> None:
    folder = "/docker-entrypoint-initdb.d"
    insert = "insert into log (line) values"
    files = {
        f"{folder}/1.sql": f"create table log (n serial, line text); {insert} ('sql ' || current_user)",
        f"{folder}/3.exec.sh": f"#!/bin/sh\npsql -U $POSTGRES_USER -d $POSTGRES_DB -c \"{insert} ('exec')\"\n",
        f"{folder}/4.sh": f"docker_process_sql <<< \"{insert} ('sourced')\"; touch $PGDATA/mine\n",
        f"{folder}/5.txt": "not a script",
    }
    container = inside("wye/postgres", env={**PASSWORD, "POSTGRES_USER": "app"}, files=files)
    packed = container.rootfs / folder.lstrip("/") / "2.sql.gz"
    packed.write_bytes(gzip.compress(f"{insert} ('gz')".encode()))
    select = "select string_agg(line, ',' order by n) from log"
    query = f'PGHOST=/var/run/postgresql {QUERY} "{select}"; ls $PGDATA/mine; cat /tmp/log'
    output = container.run(SERVE, query)
    assert "sql app,gz,exec,sourced" in output
    assert "/var/lib/postgresql/data/mine" in output
    assert any("5.txt: not a script, ignored" in line for line in output)
    assert "sql app,gz,exec,sourced" in container.run(SERVE, query)


def test_no_password_is_refused_with_what_to_do(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres")
    with pytest.raises(ProgramFailed, match="set POSTGRES_PASSWORD"):
        container.run("docker-entrypoint.sh postgres")
    output = container.run(SERVE, f"{QUERY} 'select 1'", env={"POSTGRES_HOST_AUTH_METHOD": "trust"})
    assert output[0] == "1"


def test_settings_from_files(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", files={"/run/secrets/password": "from a file\n", "/run/secrets/user": "filed"})
    (container.rootfs / "run/secrets/password").chmod(0o400)
    env = {"POSTGRES_PASSWORD_FILE": "/run/secrets/password", "POSTGRES_USER_FILE": "/run/secrets/user"}
    output = container.run(SERVE, f"PGUSER=filed PGDATABASE=filed PGPASSWORD='from a file' {QUERY} 'select 5'", env=env)
    assert "5" in output
    with pytest.raises(ProgramFailed, match="both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE"):
        inside_again(container).run("docker-entrypoint.sh postgres", env={**env, **PASSWORD})


def inside_again(container: Any) -> Any:
    """The same container with an empty volume."""
    container.run("find $PGDATA -mindepth 1 -delete")
    return container


def test_options_and_other_commands(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", env={**PASSWORD, "POSTGRES_INITDB_ARGS": "--data-checksums --encoding='UTF8'"})
    query = f"export PGPASSWORD=\"$POSTGRES_PASSWORD\"; {QUERY} 'show max_connections'; {QUERY} 'show data_checksums'"
    output = container.run(SERVE, query, env={"COMMAND": "-c max_connections=17"})
    assert output[:2] == ["17", "on"]
    assert container.run("docker-entrypoint.sh postgres --version")[0].startswith("postgres (PostgreSQL)")
    assert container.run("docker-entrypoint.sh echo $0 hello; docker-entrypoint.sh id -u")[-2:] == ["bash hello", "0"]


def test_pgdata_can_be_a_directory_below_the_volume(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", env={**PASSWORD, "PGDATA": "/var/lib/postgresql/data/below/it"})
    assert container.run(SERVE, "ls $PGDATA/PG_VERSION")[0] == "/var/lib/postgresql/data/below/it/PG_VERSION"


def test_a_volume_with_something_else_is_left_alone(inside: Callable[..., Any]) -> None:
    container = inside("wye/postgres", env=PASSWORD)
    container.run("echo precious > $PGDATA/file")
    with pytest.raises(ProgramFailed, match="not empty"):
        container.run("docker-entrypoint.sh postgres")
    assert container.run("ls -A $PGDATA; cat $PGDATA/file") == ["file", "precious"]


@pytest.mark.parametrize(
    "moment",
    [
        "-d $PGDATA/.initialising",
        "-e $PGDATA/.initialising/password",
        "-e $PGDATA/.initialising/data/PG_VERSION",
        "-e $PGDATA/.initialising/data/global/pg_control",
        "-e $PGDATA/.initialising/data/base/5",
        "-e $PGDATA/PG_VERSION",
        "-e $PGDATA/postmaster.pid",
        "-e /tmp/script-began",
        "-e /tmp/script-ended",
    ],
)
def test_an_initialisation_cut_short_is_begun_again(inside: Callable[..., Any], moment: str) -> None:
    script = (
        "touch /tmp/script-began; docker_process_sql <<< 'create table once ()'; touch /tmp/script-ended; sleep 0.1"
    )
    container = inside("wye/postgres", env=PASSWORD, files={"/docker-entrypoint-initdb.d/1.sh": script})
    container.run(f"docker-entrypoint.sh postgres > /tmp/log 2>&1 & until [ {moment} ]; do :; done; kill -9 -1")
    query = (
        f"export PGPASSWORD=\"$POSTGRES_PASSWORD\"; {QUERY} 'select count(*) from once'; cat /tmp/log; ls -A $PGDATA"
    )
    output = container.run(SERVE, query)
    assert output[0] == "0"
    assert "postgres: an earlier initialisation was cut short; starting again" in output
    assert ".initialising" not in output


def test_a_failed_script_is_not_taken_for_done(inside: Callable[..., Any]) -> None:
    folder = "/docker-entrypoint-initdb.d"
    container = inside("wye/postgres", env=PASSWORD, files={f"{folder}/1.sql": "create table t (n int); select wrong;"})
    for _ in range(2):
        with pytest.raises(ProgramFailed, match='column "wrong" does not exist'):
            container.run("docker-entrypoint.sh postgres")
    (container.rootfs / folder.lstrip("/") / "1.sql").write_text("create table t (n int)")
    query = f"export PGPASSWORD=\"$POSTGRES_PASSWORD\"; {QUERY} 'select count(*) from t'"
    assert container.run(SERVE, query)[0] == "0"


def test_starting_an_initialised_database_takes_two_programs(inside: Callable[..., Any]) -> None:
    """Forks start often: on a data directory that is initialised nothing runs but what gives up root, and postgres."""
    container = inside("wye/postgres", env=PASSWORD)
    container.run(
        "echo 15 > $PGDATA/PG_VERSION; mkdir -p /var/run/postgresql /only; ln -s $(command -v setpriv) /only;"
        "printf '#!/bin/dash\necho started $*\n' > /only/postgres; chmod 755 /only/postgres"
    )
    entrypoint = container.run("command -v docker-entrypoint.sh")[0]
    assert container.run(f"PATH=/only {entrypoint} postgres -c x=1") == ["started -c x=1"]


def test_the_image_says_how_it_runs(inside: Callable[..., Any]) -> None:
    config = inside("wye/postgres").image.config
    assert config.entrypoint == ("docker-entrypoint.sh",)
    assert config.command == ("postgres",)
    assert config.stop_signal == "SIGINT"
    assert config.volumes == ("/var/lib/postgresql/data",)
    assert config.exposed == ("5432/tcp",)
    assert config.healthcheck is not None
    assert config.environment["PGDATA"] == "/var/lib/postgresql/data"
