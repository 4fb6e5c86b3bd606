"""Keys merged between real servers: against an oracle, by every type, with a target that moves."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.host.kinds_redis.conftest import on_copy

from wye.errors import BadRequest, Unsupported
from wye.host import Host
from wye.kinds.redis import aof
from wye.kinds.redis.apply import apply, is_applied
from wye.kinds.redis.changes import RedisChanges, changes, page, stat
from wye.kinds.redis.connection import Client, ConnectionLost, ServerRefused, require_supported
from wye.kinds.redis.keys import databases, read_states, scan
from wye.kinds.redis.plan import RedisPlan, from_json, inverse, plan, to_json
from wye.kinds.redis.script import elements_digest
from wye.kinds.redis.volume import RedisVolume
from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

HOST = Host()
Three = Any
"""`conftest.Three`."""


def run(connection: Client, *lines: str) -> None:
    for line in lines:
        connection.execute(*line.split())


def everything(connection: Client) -> dict[tuple[int, bytes], tuple[object, ...]]:
    """All keys of all databases in the plainest way: type, value, expiry."""
    found: dict[tuple[int, bytes], tuple[object, ...]] = {}
    for number in databases(connection):
        connection.execute("SELECT", number)
        for key in connection.execute("KEYS", "*"):
            kind = connection.execute("TYPE", key).decode()
            found[number, key] = (kind, value(connection, key, kind), connection.execute("PEXPIRETIME", key))
    return found


def value(connection: Client, key: bytes, kind: str) -> object:
    match kind:
        case "string":
            return connection.execute("GET", key)
        case "list":
            return tuple(connection.execute("LRANGE", key, 0, -1))
        case "set":
            return frozenset(connection.execute("SMEMBERS", key))
        case "hash":
            flat = connection.execute("HGETALL", key)
            return frozenset(zip(flat[::2], flat[1::2], strict=True))
        case "zset":
            flat = connection.execute("ZRANGE", key, 0, -1, "WITHSCORES")
            return frozenset(zip(flat[::2], flat[1::2], strict=True))
        case "stream":
            groups = connection.execute("XINFO", "GROUPS", key)
            return repr(connection.execute("XRANGE", key, "-", "+")), repr(groups)
    raise AssertionError(kind)


def difference(three: Three, *, by_aof: bool = True) -> tuple[Client, Client, RedisChanges]:
    base, theirs, *roots = three.end()
    candidates = None
    if by_aof:
        # Here a server runs in a copy of the directory, and says so.
        sides = [aof.Loaded(each, root, f"{root}-run") for each, root in zip((base, theirs), roots, strict=True)]
        candidates = aof.touched_keys(HOST, *sides)
    return base, theirs, changes(base, theirs, candidates)


def merge(three: Three, decisions: Decisions | None = None, **options: Any) -> RedisPlan:
    base, theirs, found = difference(three)
    return plan("redis cache", base, three.ours, theirs, found, decisions, **options)


# ---------------------------------------------------------------- against an oracle

KEYS = [b"a", b"b", b"c", b"\xff\x00bin", b'quo"te\n', "schlüssel".encode()]
FAR = 4_000_000_000_000


def mutate(connection: Client, rng: random.Random, steps: int) -> None:
    for _ in range(steps):
        connection.execute("SELECT", rng.choice([0, 3]))
        key, item = rng.choice(KEYS), rng.choice([b"x", b"y", b"\0\xfe", b"z" * 100])
        commands: list[tuple[Any, ...]] = [
            ("SET", key, item), ("APPEND", key, item), ("DEL", key), ("RENAME", key, rng.choice(KEYS)),
            ("RPUSH", key, item), ("LPOP", key), ("SADD", key, item, b"w"), ("SREM", key, item),
            ("HSET", key, item, rng.randrange(3)), ("HDEL", key, item), ("ZADD", key, rng.randrange(3) + 0.5, item),
            ("ZREM", key, item), ("XADD", key, "*", item, item), ("PEXPIREAT", key, FAR + rng.randrange(3)),
            ("PERSIST", key), ("COPY", key, rng.choice(KEYS), "DB", rng.choice([0, 3]), "REPLACE"),
            ("MOVE", key, rng.choice([0, 3])), ("SINTERSTORE", key, rng.choice(KEYS), rng.choice(KEYS)),
            ("EVAL", "return redis.call('INCR', KEYS[1])", 1, key), ("SETRANGE", key, 3, item),
            ("XGROUP", "CREATE", key, "g", "0", "MKSTREAM"), ("XREADGROUP", "GROUP", "g", item, "STREAMS", key, ">"),
        ]  # fmt: skip
        try:
            connection.execute(*rng.choice(commands))
        except ServerRefused:
            continue


def oracle(base: dict[Any, Any], ours: dict[Any, Any], theirs: dict[Any, Any]) -> tuple[dict[Any, Any], set[Any]]:
    """What the target must hold, and the keys in conflict: content and expiry each by the plain rule."""
    result, conflicts = dict(ours), set()
    for key in base.keys() | theirs.keys():
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        if t in (b, o):
            continue
        if b == o:
            merged = t
        elif b is None or o is None or t is None:
            conflicts.add(key)
            continue
        else:
            content = three_ways(b[:2], o[:2], t[:2])
            expiry = three_ways(b[2], o[2], t[2])
            if content is None or expiry is None:
                conflicts.add(key)
                continue
            merged = (*content, expiry)
        if merged is None:
            del result[key]
        else:
            result[key] = merged
    return result, conflicts


def three_ways(b: Any, o: Any, t: Any) -> Any:
    if t in (b, o):
        return o
    return t if b == o else None


@pytest.mark.parametrize("seed", range(30))
def test_random_rounds_merge_as_the_oracle_says(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    mutate(three.ours, rng, 25)
    fork = three.fork()
    mutate(fork, rng, rng.randrange(1, 12))
    mutate(three.ours, rng, rng.randrange(1, 6))
    base, theirs, found = difference(three, by_aof=seed % 3 != 0)
    assert found.scanned == (seed % 3 == 0)
    expected, in_conflict = oracle(everything(base), everything(three.ours), everything(theirs))
    if not found.scanned:
        assert found.keys == changes(base, theirs).keys
    planned = plan("redis cache", base, three.ours, theirs, found)
    before = everything(three.ours)
    places = {
        (int(c.place.rpartition("db")[2]), (c.key[0] or "").encode("utf-8", "surrogateescape"))
        for c in planned.conflicts
    }
    assert places == in_conflict
    if planned.conflicts:
        kept = tuple(write for write in planned.writes if (write.database, write.key) not in in_conflict)
        planned = RedisPlan(writes=kept)
    apply("redis cache", three.ours, from_json(to_json(planned)))
    assert everything(three.ours) == expected
    assert is_applied(three.ours, planned)
    apply("redis cache", three.ours, inverse(planned))
    assert everything(three.ours) == before


# ---------------------------------------------------------------- what changed


def test_commands_that_touch_everything_lead_to_a_scan(three: Three) -> None:
    run(three.ours, "SET a 1", "SET b 2")
    fork = three.fork()
    run(fork, "FLUSHALL", "SET b 2", "SET c 3")
    base, theirs, found = difference(three)
    assert found.scanned
    assert stat(found) == {"databases": {"0": {"added": 1, "removed": 1, "modified": 0}}, "functions_differ": False}
    assert [(line["key"], line["change"]) for line in page(base, theirs, found)] == [("a", "removed"), ("c", "added")]


def test_a_rewritten_append_only_file_leads_to_a_scan(three: Three) -> None:
    run(three.ours, "SET a 1")
    fork = three.fork()
    run(fork, "SET b 2", "BGREWRITEAOF")
    deadline = time.monotonic() + 10
    while b"aof_rewrite_in_progress:1" in fork.execute("INFO", "persistence"):
        assert time.monotonic() < deadline
    run(fork, "SET c 2")
    _, _, found = difference(three)
    assert found.scanned
    assert [change.key for change in found.keys] == [b"b", b"c"]


def test_what_comes_to_nothing_is_no_change(three: Three) -> None:
    run(three.ours, "SET a 1", "SADD s x y", "HSET h f v", "RPUSH l 1 2")
    fork = three.fork()
    run(fork, "SET a 2", "SET a 1", "SREM s x", "SADD s x", "HSET h g v", "HDEL h g", "LPOP l", "LPUSH l 1")
    run(fork, "SET n 1", "DEL n")
    _, _, found = difference(three)
    assert (found.keys, found.scanned) == ((), False)


def test_a_key_whose_time_is_up_is_no_change(three: Three) -> None:
    run(three.ours, "SET a 1 PX 60000", "SET b 1 PX 400")
    fork = three.fork()
    run(fork, "SET c 1 PX 300")
    base, theirs, _, _ = three.end()
    while theirs.execute("EXISTS", "c") or base.execute("EXISTS", "b"):
        time.sleep(0.01)
    assert [change.key for change in changes(base, theirs).keys] == []


def test_equal_values_stored_in_other_ways_are_equal(three: Three) -> None:
    members = " ".join(f"m{n}" for n in range(200))
    run(three.ours, f"SADD big {members} x", "SREM big x", f"HSET h {' '.join(f'f{n} v' for n in range(200))}")
    other = three.launcher.launch(three.snapshot("live", "other"), ("--save", "")).connection
    run(other, f"SADD big {' '.join(reversed(members.split()))}", "CONFIG SET hash-max-listpack-entries 1000")
    run(other, f"HSET h {' '.join(f'f{n} v' for n in reversed(range(200)))}")
    left, right = (read_states(server, 0, [b"big", b"h"]) for server in (three.ours, other))
    assert left == right
    assert left[b"big"].digest == elements_digest((member.encode(),) for member in members.split())


def test_the_beginning_of_a_value_is_shown(three: Three) -> None:
    fork = three.fork()
    fork.execute("SET", b"bin\xff", b"\xfe" * 5000)
    run(fork, "RPUSH l 1 2 3", "SADD s a b", "ZADD z 1 one", "XADD x 1-1 f v", "HSET h f v", "EXPIREAT h 4000000000")
    base, theirs, found = difference(three)
    lines = {line["key"]: line["after"] for line in page(base, theirs, found, size=4)}
    assert lines["bin\\xff"] == {"type": "string", "length": 5000, "expires_ms": None, "value": "\\xfe" * 4}
    assert lines["l"]["value"] == ["1", "2", "3"]
    assert lines["z"]["value"] == {"one": "1"}
    assert lines["x"]["value"] == {"1-1": {"f": "v"}}
    assert (lines["h"]["value"], lines["h"]["expires_ms"]) == ({"f": "v"}, 4_000_000_000_000)
    assert len(page(base, theirs, found, offset=2, limit=3)) == 3


# ---------------------------------------------------------------- merging


def test_a_conflict_is_shown_and_resolved(three: Three) -> None:
    run(three.ours, "SELECT 5", "HSET h a 1 b 1")
    fork = three.fork()
    run(fork, "SELECT 5", "HSET h a 2")
    run(three.ours, "HSET h a 3")
    base, theirs, found = difference(three)
    (conflict,) = plan("redis cache", base, three.ours, theirs, found).conflicts
    assert (conflict.kind, conflict.place, conflict.key) == ("update/update", "redis cache db5", ("h",))
    assert [side["value"]["a"] for side in (conflict.base, conflict.ours, conflict.theirs)] == ["1", "3", "2"]
    decisions = Decisions({conflict.id: Resolution(side=Side.THEIRS)})
    apply("redis cache", three.ours, plan("redis cache", base, three.ours, theirs, found, decisions))
    assert everything(three.ours)[5, b"h"][1] == {(b"a", b"2"), (b"b", b"1")}


@pytest.mark.parametrize(
    ("setup", "change", "given", "expected"),
    [
        ("SET {} 1", "SET {} {}", "zwölf", "zwölf".encode()),
        ("SET {} 1", "SET {} {}", 12, b"12"),
        ("RPUSH {} 1", "RPUSH {} {}", ["a", "b", "a"], (b"a", b"b", b"a")),
        ("SADD {} 1", "SADD {} {}", ["a", "b", "a"], {b"a", b"b"}),
        ("HSET {} a 1", "HSET {} a {}", {"a": 7, "b": "x"}, {(b"a", b"7"), (b"b", b"x")}),
        ("ZADD {} 1 a", "ZADD {} {} a", {"a": 7, "b": "1.5"}, {(b"a", b"7"), (b"b", b"1.5")}),
        ("HSET {} a 1", "HSET {} a {}", "text instead", b"text instead"),
    ],
)
def test_a_conflict_is_resolved_with_a_value(
    three: Three, setup: str, change: str, given: object, expected: object
) -> None:
    run(three.ours, setup.format("k"), "EXPIREAT k 4000000000")
    fork = three.fork()
    run(fork, change.format("k", 22), "SET deleted 2")
    run(three.ours, change.format("k", 33), "SET deleted 3")
    base, theirs, found = difference(three)
    conflicts = plan("redis cache", base, three.ours, theirs, found).conflicts
    value = Resolution(side=Side.VALUE, value=given)
    decisions = Decisions({each.id: value for each in conflicts})
    planned = plan("redis cache", base, three.ours, theirs, found, decisions)
    assert not planned.conflicts
    before = everything(three.ours)
    apply("redis cache", three.ours, planned)
    assert is_applied(three.ours, planned)
    assert everything(three.ours)[0, b"k"][1] == expected
    assert everything(base).keys() == {(0, b"k")}
    apply("redis cache", three.ours, inverse(planned))
    assert everything(three.ours) == before


@pytest.mark.parametrize("given", [None, True, [], {}, [["a"]], {"a": {"b": "c"}}])
def test_what_is_no_value_is_refused(three: Three, given: object) -> None:
    run(three.ours, "HSET h a 1")
    fork = three.fork()
    run(fork, "HSET h a 2")
    run(three.ours, "HSET h a 3")
    base, theirs, found = difference(three)
    (conflict,) = plan("redis cache", base, three.ours, theirs, found).conflicts
    with pytest.raises(BadRequest, match=conflict.id):
        plan(
            "redis cache", base, three.ours, theirs, found,
            Decisions({conflict.id: Resolution(side=Side.VALUE, value=given)}),
        )  # fmt: skip


def test_fields_merge_where_the_project_asks_for_it(three: Three) -> None:
    run(three.ours, "HSET h a 1 b 1 c 1", "SADD s x y", "ZADD z 1 x 2 y", "EXPIREAT h 4000000000")
    fork = three.fork()
    run(fork, "HSET h a 2 d 4", "HDEL h c", "SREM s x", "SADD s n", "ZADD z 9 x", "EXPIREAT h 4100000000")
    run(three.ours, "HSET h b 2", "SADD s w", "ZADD z 3 w")
    planned = merge(three, by_field=lambda key: True)
    assert not planned.conflicts
    before = everything(three.ours)
    apply("redis cache", three.ours, planned)
    assert is_applied(three.ours, planned)
    got = everything(three.ours)
    assert got[0, b"h"][1:] == ({(b"a", b"2"), (b"b", b"2"), (b"d", b"4")}, 4_100_000_000_000)
    assert got[0, b"s"][1] == {b"y", b"n", b"w"}
    assert got[0, b"z"][1] == {(b"x", b"9"), (b"y", b"2"), (b"w", b"3")}
    apply("redis cache", three.ours, inverse(planned))
    assert everything(three.ours) == before


def test_a_conflict_about_a_field_names_it(three: Three) -> None:
    run(three.ours, "HSET h expires 1 other 1")
    fork = three.fork()
    run(fork, "HSET h expires 2")
    run(three.ours, "HSET h expires 3")
    (conflict,) = merge(three, by_field=lambda key: True).conflicts
    assert (conflict.key, conflict.column, conflict.base, conflict.ours, conflict.theirs) == (
        ("h",), "expires", "1", "3", "2",
    )  # fmt: skip


def test_a_refusal_names_every_key_that_moved_and_writes_none(three: Three) -> None:
    run(three.ours, "SET a 1", "SET b 1", "SET c 1", "SELECT 2", "SET a 1")
    fork = three.fork()
    run(fork, "MSET a 2 b 2 c 2", "SELECT 2", "SET a 2", "SET new 2")
    planned = merge(three)
    run(three.ours, "SELECT 0", "SET b 3", "EXPIREAT c 4000000000", "SELECT 2", "SET new 3")
    before = everything(three.ours)
    with pytest.raises(Refused) as refused:
        apply("redis cache", three.ours, planned)
    assert sorted((c.place, c.key[0]) for c in refused.value.conflicts) == [
        ("redis cache db0", "b"), ("redis cache db0", "c"), ("redis cache db2", "new"),
    ]  # fmt: skip
    assert everything(three.ours) == before
    assert not is_applied(three.ours, planned)


def test_a_write_that_fails_half_way_is_taken_back(three: Three) -> None:
    run(three.ours, "SET a 1", "SET b 1 PX 100000", "SET c 1")
    fork = three.fork()
    run(fork, "MSET a 2 b 2 n 2", "DEL c")
    planned = merge(three)
    broken = [w if w.key != b"n" else type(w)(**{**fields(w), "payload": b"rubbish"}) for w in planned.writes]
    before = everything(three.ours)
    with pytest.raises(ServerRefused, match="failed"):
        apply("redis cache", three.ours, RedisPlan(writes=tuple(broken)))
    assert everything(three.ours) == before


def fields(write: Any) -> dict[str, Any]:
    return {name: getattr(write, name) for name in write.__slots__}


def test_a_full_target_is_left_alone(three: Three) -> None:
    run(three.ours, "SET a 1", "SET gone 1")
    fork = three.fork()
    run(fork, "SET a 2", "DEL gone")
    planned = merge(three)
    before = everything(three.ours)
    run(three.ours, "CONFIG SET maxmemory 1")
    with pytest.raises(ServerRefused):
        apply("redis cache", three.ours, planned)
    run(three.ours, "CONFIG SET maxmemory 0")
    assert everything(three.ours) == before


def test_later_writes_survive_a_revert(three: Three) -> None:
    run(three.ours, "SET a 1", "SET b 1")
    fork = three.fork()
    run(fork, "SET a 2", "DEL b", "SET c 2")
    before = three.launcher.launch(three.snapshot("live", "before"), three.live_settings).connection
    apply("redis cache", three.ours, merge(three))
    after = three.launcher.launch(three.snapshot("live", "after"), three.live_settings).connection
    run(three.ours, "SET later 1", "SET c 3")
    planned = plan("redis cache", after, three.ours, before, changes(after, before))
    (conflict,) = planned.conflicts
    assert (conflict.kind, conflict.key) == ("delete/update", ("c",))
    decisions = Decisions({conflict.id: Resolution(side=Side.OURS)})
    apply("redis cache", three.ours, plan("redis cache", after, three.ours, before, changes(after, before), decisions))
    assert {key[1]: state[1] for key, state in everything(three.ours).items()} == {
        b"a": b"1", b"b": b"1", b"c": b"3", b"later": b"1",
    }  # fmt: skip


def test_streams_go_over_with_their_groups(three: Three) -> None:
    run(three.ours, "XADD x 1-1 a 1", "XADD x 2-1 a 2", "XGROUP CREATE x g 0")
    fork = three.fork()
    run(fork, "XREADGROUP GROUP g me COUNT 1 STREAMS x >", "XADD x 3-1 a 3", "XGROUP CREATE x h $")
    base, theirs, found = difference(three)
    apply("redis cache", three.ours, plan("redis cache", base, three.ours, theirs, found))
    states = [read_states(server, 0, [b"x"]) for server in (three.ours, theirs, fork)]
    assert states[0] == states[1] == states[2]
    assert everything(three.ours)[0, b"x"] == everything(theirs)[0, b"x"]


def test_functions_and_large_values_are_refused_by_name(three: Three) -> None:
    run(three.ours, "SET a 1")
    fork = three.fork()
    fork.execute("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
    for first in range(0, 210_000, 10_000):
        fork.execute("SADD", "s", *range(first, first + 10_000))
    fork.execute("SETRANGE", "long", 65 << 20, "x")
    planned = merge(three)
    assert [(c.kind, c.key, set(c.choices)) for c in planned.conflicts] == [
        ("functions", (), set()), ("too-large", ("long",), set()), ("too-large", ("s",), set()),
    ]  # fmt: skip


def test_the_server_that_cannot_be_merged_says_so(three: Three, tmp_path: Path) -> None:
    require_supported(three.ours, writable=True)
    (tmp_path / "cluster").mkdir()
    cluster = three.launcher.launch(
        tmp_path / "cluster", ("--cluster-enabled", "yes", "--cluster-port", "1")
    ).connection
    with pytest.raises(Unsupported, match="cluster"):
        require_supported(cluster)
    (tmp_path / "replica").mkdir()
    replica = three.launcher.launch(tmp_path / "replica", ("--replicaof", "127.0.0.1 1")).connection
    with pytest.raises(Unsupported, match="replica"):
        require_supported(replica, writable=True)


def test_passwords_and_lost_connections(three: Three, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    server = three.launcher.launch(tmp_path / "closed", ("--requirepass", "s3cret"), password="s3cret")
    server.connection.execute("SET", "a", 1)
    stranger = Client.at(HOST, server.socket)
    with pytest.raises(ServerRefused, match="Authentication required"):
        stranger.execute("GET", "a")
    stranger.close()
    server.process.kill()
    server.process.wait()
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            server.connection.execute("GET", "a")


def test_a_directory_of_an_rdb_file_alone(three: Three, tmp_path: Path) -> None:
    directory = tmp_path / "rdb"
    directory.mkdir()
    first = three.launcher.launch(directory, ("--save", "")).connection
    run(first, "SELECT 9", "SET a 1", "SAVE")
    assert RedisVolume(HOST).claims(directory)
    copy = three.snapshot("rdb", "rdb-copy")
    assert ("--appendonly", "no") in pairwise(on_copy(copy))
    assert scan(three.launcher.launch(copy, on_copy(copy)).connection, 9).keys() == {b"a"}


def test_a_hostile_append_only_file_costs_nothing_but_a_scan(three: Three, tmp_path: Path) -> None:
    run(three.ours, "SET a 1")
    fork = three.fork()
    run(fork, "SET b 1")
    _, theirs, base_directory, theirs_directory = three.end()
    assert aof.candidates(HOST, base_directory, theirs_directory, theirs) == {0: {b"b"}}
    manifest = theirs_directory / "appendonlydir/appendonly.aof.manifest"
    increment = next((theirs_directory / "appendonlydir").glob("*.incr.aof"))
    good, text = increment.read_bytes(), manifest.read_bytes()
    unknown = b"*3\r\n$3\r\nWAT\r\n$1\r\na\r\n$1\r\nb\r\n"
    for tail in (b"*1\r\n$99999999999\r\n", b"*2\r\n$3\r\nSET\r\n", b"\0" * 100, unknown):
        increment.write_bytes(good + tail)
        assert aof.candidates(HOST, base_directory, theirs_directory, theirs) in (None, {0: {b"b"}})
    for entry in (
        b"file ../../etc/passwd seq 1 type i\n",
        b"",
        b"\xff" * 50,
        text + b"file /etc/passwd seq 9 type i\n",
    ):
        manifest.write_bytes(entry)
        assert aof.candidates(HOST, base_directory, theirs_directory, theirs) is None
    manifest.write_bytes(text)
    increment.unlink()
    increment.symlink_to("/etc/passwd")
    assert aof.candidates(HOST, base_directory, theirs_directory, theirs) is None


def test_many_large_values_together_are_refused_and_read_in_parts(three: Three) -> None:
    names = [f"s{n}" for n in range(6)]
    for name in names:
        for first in range(0, 90_000, 10_000):
            three.ours.execute("SADD", name, *range(first, first + 10_000))
    fork = three.fork()
    for name in names:
        fork.execute("SADD", name, "more")
    states = read_states(three.ours, 0, [name.encode() for name in [*names, "absent"]], bounded=True)
    assert [state.length for state in states.values()] == [90_000] * 6
    assert [(c.kind, c.place) for c in merge(three).conflicts] == [("too-large", "redis cache")]


def expiring(three: Three, *lines: str) -> None:
    try:
        run(three.ours, *lines)
    except ServerRefused:
        pytest.skip("this server's fields do not expire")


@pytest.mark.parametrize("side", [Side.OURS, Side.THEIRS])
def test_a_hash_whose_fields_expire_is_not_merged_by_field(three: Three, side: Side) -> None:
    expiring(three, "HSET h a 1 b 2", "HPEXPIRE h 4000000 FIELDS 1 a")
    fork = three.fork()
    run(fork, "HPEXPIRE h 100000000 FIELDS 1 b")
    run(three.ours, "HSET h c 3")
    (conflict,) = merge(three, by_field=lambda key: True).conflicts
    assert (conflict.kind, conflict.key, "expire on their own" in conflict.detail) == ("update/update", ("h",), True)
    three.again()
    planned = merge(three, Decisions({conflict.id: Resolution(side=side)}), by_field=lambda key: True)
    apply("redis cache", three.ours, planned)
    assert (three.ours.execute("HPTTL", "h", "FIELDS", 1, "b")[0] > 0) is (side is Side.THEIRS)
    assert three.ours.execute("HPTTL", "h", "FIELDS", 1, "a")[0] > 0
    apply("redis cache", three.ours, inverse(planned))
    assert three.ours.execute("HGET", "h", "c") == b"3"


def test_a_field_s_time_that_the_target_gave_is_in_conflict_with_a_write(three: Three) -> None:
    expiring(three, "HSET h a 1 b 2", "HPEXPIRE h 4000000 FIELDS 1 a", "HPERSIST h FIELDS 1 a")
    fork = three.fork()
    run(fork, "HSET h a 5")
    run(three.ours, "HPEXPIRE h 100000000 FIELDS 1 a")
    assert [each.kind for each in merge(three, by_field=lambda key: True).conflicts] == ["update/update"]


def test_a_hash_whose_fields_expire_goes_over_whole(three: Three) -> None:
    expiring(three, "HSET h a 1 b 2", "HPEXPIRE h 4000000 FIELDS 1 a")
    fork = three.fork()
    run(fork, "HPEXPIRE h 100000000 FIELDS 1 b")
    apply("redis cache", three.ours, merge(three, by_field=lambda key: True))
    assert three.ours.execute("HPTTL", "h", "FIELDS", 1, "b")[0] > 0
