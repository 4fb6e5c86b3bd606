"""Which files a server goes by, as its command, its own word and its directory say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wye.host import Host
from wye.interfaces import Served
from wye.kinds.redis.kind import RedisKind
from wye.kinds.redis.told import Files, dump_of, from_command, from_json, refuse_elsewhere, resolve, to_json
from wye.merge.refused import Refused

HOST = Host()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("redis-server",), Files(appends=False)),
        (("redis-server", "--appendonly", "yes"), Files(appends=True)),
        (("--appendonly", "yes"), Files(appends=True)),
        (("/usr/bin/valkey-server", "/etc/valkey.conf"), Files()),
        (("redis-server", "/etc/redis.conf", "--appendonly", "no"), Files(appends=False)),
        (("sh", "-c", "redis-server --appendonly yes && true"), Files(appends=True)),
        (("sh", "-c", "exec redis-server --dbfilename 'prod.rdb'"), Files(appends=False, dump="prod.rdb")),
        (("/start.sh",), Files()),
        ((), Files()),
        (("redis-server", "--dbfilename", "../x"), Files()),
        (("redis-server", "--dir", "/data/a", "--appenddirname", "o"),
         Files(appends=False, directory="/data/a", append_directory="o")),
    ],
)  # fmt: skip
def test_what_a_command_says(argv: tuple[str, ...], expected: Files) -> None:
    assert from_command(argv) == expected


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"dump":"a/b"}', b'{"append_name":""}', b'{"directory":"\\u0000"}']
)
def test_what_nobody_said(data: bytes) -> None:
    assert from_json(data) is None


def directory(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


MANIFEST = "appendonlydir/appendonly.aof.manifest"
PLAIN = Served(place="redis cache", target="/data", argv=("redis-server",))


def test_without_a_word_its_command_counts_and_then_its_files(tmp_path: Path) -> None:
    root = directory(tmp_path, "dump.rdb", MANIFEST)
    assert resolve(HOST, root, PLAIN) == Files(directory="/data", appends=False)
    assert resolve(HOST, root, replace(PLAIN, argv=("redis-server", "/x.conf"))).appends
    elsewhere = to_json(Files(directory="/data/sub", appends=False, dump="prod.rdb"))
    found = resolve(HOST, root, replace(PLAIN, argv=("/start.sh",), told_elsewhere=elsewhere))
    assert (found.dump, found.directory, found.appends) == ("prod.rdb", "/data/sub", False)


def test_its_word_holds_while_the_dump_is_the_same(tmp_path: Path) -> None:
    root = directory(tmp_path, "dump.rdb", MANIFEST)
    said = Files(directory="/data", appends=False)
    said = replace(said, saved=dump_of(HOST, root, said, "/data"))
    served = replace(PLAIN, argv=("redis-server", "--appendonly", "yes"), told=to_json(said))
    assert not resolve(HOST, root, served).appends
    (root / "dump.rdb").write_text("another")
    assert resolve(HOST, root, served).appends


def test_a_directory_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="redis cache"):
        refuse_elsewhere(Files(directory="/var/lib/redis"), PLAIN)
    for there in ("", "/data", "/data/sub"):
        refuse_elsewhere(Files(directory=there), PLAIN)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (replace(PLAIN, working_dir="/data"), True),
        (replace(PLAIN, argv=("--save", "60 1"), working_dir="/data"), True),
        (replace(PLAIN, argv=("redis-server", "--dir", "/data/x"), working_dir="/"), True),
        (replace(PLAIN, working_dir="/srv"), False),
        (replace(PLAIN, argv=("redis-cli", "monitor"), working_dir="/data"), False),
        (replace(PLAIN, argv=(), working_dir="/data"), False),
        (replace(PLAIN, argv=("redis-server", "/s.conf", "--sentinel"), working_dir="/data"), False),
        (replace(PLAIN, argv=("redis-server", "--replicaof", "cache", "6379"), working_dir="/data"), False),
    ],
)
def test_whose_volume_it_is_going_to_be(served: Served, expected: bool) -> None:
    assert RedisKind(HOST).serves(served) is expected
