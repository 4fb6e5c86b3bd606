"""Random histories on both sides, against an oracle that knows only whole tables and the rules of merging.

A round is a database: a table with a key, a unique column and sometimes a second unique one; children that refer to it,
with or without a cascade; and a table without a key. Fork and production run random statements; whatever
PostgreSQL refuses did not happen. The oracle reads base, ours and theirs whole, as Python values, and says what has to
come of it: the merged tables, or exactly which keys are in conflict. It shares no code with wye.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from wye.merge.refused import Refused
from wye.testing.postgres_server import own_version

pytestmark = pytest.mark.host

ROUNDS = 30
OWN = own_version()
STATEMENTS = {"fork": 8, "production": 5}
KEYED = ("parent", "child")


@dataclass
class Tables:
    """Whole tables: rows by key, and a count of rows without one. Columns by name."""

    keyed: dict[str, dict[Any, dict[str, Any]]]
    loose: Counter[Any]


@dataclass
class Verdict:
    tables: Tables
    conflicts: set[tuple[str, Any]] = field(default_factory=set)
    broken: bool = False
    """A constraint does not hold in the merged tables."""


def schema(dice: random.Random) -> list[str]:
    cascade = dice.choice(["", "on delete cascade", "on update cascade on delete set null"])
    return [
        f"create table parent (id int primary key, a int, b text, u int unique{dice.choice([' deferrable', ''])})",
        f"create table child (id int primary key, up int references parent {cascade}, v text)",
        "create table loose (a int, b text)",
        "insert into parent select n, n % 3, 'b' || n % 4, n * 10 from generate_series(1, 12) n",
        "insert into child select n, 1 + n % 12, 'v' || n % 3 from generate_series(1, 12) n",
        "insert into loose select n % 3, 'x' from generate_series(1, 9) n",
    ]


def statement(dice: random.Random) -> str:
    key, other, small = dice.randint(1, 16), dice.randint(1, 16), dice.randint(0, 3)
    text = dice.choice(["'x'", "'y'", "null", "''", f"'b{small}'"])
    return dice.choice([
        f"insert into parent values ({key}, {small}, {text}, {dice.choice(['null', str(other * 10)])})",
        f"update parent set a = {small} where id = {key}",
        f"update parent set b = {text} where id in ({key}, {other})",
        f"update parent set a = a + 1, b = {text} where id = {key}",
        f"update parent set u = {other * 10} where id = {key}",
        f"update parent set id = {other} where id = {key}",
        f"delete from parent where id = {key}",
        f"insert into child values ({key}, {other}, {text})",
        f"update child set up = {other} where id = {key}",
        f"update child set v = {text} where id = {key}",
        f"delete from child where id = {key}",
        f"insert into loose values ({small}, {text})",
        f"delete from loose where ctid = (select min(ctid) from loose where a = {small})",
        f"update loose set b = {text} where ctid = (select max(ctid) from loose where a = {small})",
        "begin; update parent set a = 99; delete from child; rollback",
    ])  # fmt: skip


def play(site: Any, database: str, dice: random.Random, count: int, extra: list[str]) -> None:
    connection = site.server.connect(database)
    try:
        for sql in [*(statement(dice) for _ in range(count)), *extra]:
            with contextlib.suppress(psycopg.errors.IntegrityError):
                connection.execute(sql)
    finally:
        connection.close()


def read(site: Any, database: str) -> Tables:
    connection = site.server.connect(database)
    try:
        keyed = {}
        for name in KEYED:
            cursor = connection.execute(f"select * from {name}")
            columns = [column.name for column in cursor.description or ()]
            keyed[name] = {row[0]: dict(zip(columns, row, strict=True)) for row in cursor.fetchall()}
        return Tables(keyed, Counter(connection.execute("select a, b from loose").fetchall()))
    finally:
        connection.close()


CONSTRAINTS = {"unique", "fk-parent-missing", "fk-child-exists"}


def oracle(base: Tables, ours: Tables, theirs: Tables, added: dict[str, Any]) -> Verdict:
    """`added`: columns that the fork gave to parent, with their default."""
    verdict = Verdict(Tables({}, Counter()))
    for name in KEYED:
        sides = [side.keyed[name] for side in (base, ours, theirs)]
        if name == "parent":
            sides = [{k: {**added, **row} for k, row in side.items()} for side in sides]
        was, mine, other = sides
        merged = dict(mine)
        for key in was.keys() | mine.keys() | other.keys():
            b, o, t = was.get(key), mine.get(key), other.get(key)
            if t in (b, o):
                continue
            if b == o:
                if t is None:
                    del merged[key]
                else:
                    merged[key] = t
            elif b is None or o is None or t is None:
                verdict.conflicts.add((name, key))
            else:
                if any(t[c] not in (b[c], o[c]) and b[c] != o[c] for c in t):
                    verdict.conflicts.add((name, key))
                merged[key] = {c: t[c] if t[c] != b[c] else o[c] for c in t}
        verdict.tables.keyed[name] = merged
    for row in base.loose.keys() | theirs.loose.keys():
        if theirs.loose[row] < base.loose[row] != ours.loose[row]:
            verdict.conflicts.add(("loose", row))
    verdict.tables.loose = +Counter(
        {r: ours.loose[r] + theirs.loose[r] - base.loose[r] for r in base.loose | ours.loose | theirs.loose}
    )
    parents = verdict.tables.keyed["parent"]
    unique = [row["u"] for row in parents.values() if row["u"] is not None]
    orphans = [c for c in verdict.tables.keyed["child"].values() if c["up"] is not None and c["up"] not in parents]
    verdict.broken = len(unique) != len(set(unique)) or bool(orphans)
    return verdict


def identity(conflict: Any) -> tuple[str, Any]:
    name = conflict.place.rpartition(".")[2]
    if name == "loose":
        return name, (None if conflict.key[0] is None else int(conflict.key[0]), conflict.key[1])
    return name, int(conflict.key[0])


def judge(rig: Any, production: Any, database: str, changes: Any, verdict: Verdict) -> str:
    """Merges one round; what came of it, after checking it."""
    before = rig.servers.dump(production.server, database)
    conflicts = []
    try:
        if changes is not None:
            rig.apply(production, changes)
    except Refused as refused:
        conflicts = refused.conflicts
    if conflicts:
        assert rig.servers.dump(production.server, database) == before
        of_rows = [conflict for conflict in conflicts if conflict.kind not in CONSTRAINTS]
        assert {identity(conflict) for conflict in of_rows} == verdict.conflicts
        assert verdict.conflicts or verdict.broken, conflicts
        return "refused"
    assert not verdict.conflicts
    assert not verdict.broken
    after = read(production, database)
    assert after.keyed == verdict.tables.keyed
    assert after.loose == verdict.tables.loose
    return "merged"


def batch(rig: Any, seed: int, rounds: int) -> Counter[str]:
    dice = random.Random(seed)
    production = rig.create()
    names = [f"round_{number}" for number in range(rounds)]
    for name in names:
        production.run("postgres", f"create database {name}")
        production.run(name, schema(dice), "public")
    bases = {name: read(production, name) for name in names}
    fork = rig.fork(production, stride=0)
    added: dict[str, dict[str, Any]] = {}
    for name in names:
        extra = dice.choice(
            [[], [], ["vacuum full parent"], ["vacuum parent, loose"], ["truncate child"], ["delete from loose"]]
        )
        if dice.random() < 0.2:
            extra = [*extra, "alter table parent add column z int default 5", "update parent set z = 6 where a = 1"]
            added[name] = {"z": 5}
        play(fork, name, dice, STATEMENTS["fork"], extra)
        play(production, name, dice, STATEMENTS["production"], [])
    found = {changes.database: changes for changes in rig.diff(fork)}
    results: Counter[str] = Counter()
    for name in names:
        verdict = oracle(bases[name], read(production, name), read(fork, name), added.get(name, {}))
        try:
            results[judge(rig, production, name, found.get(name), verdict)] += 1
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {name}: {error}") from error
    fork.discard()
    production.discard()
    rig.sweep()
    return results


def test_random_merges(rig: Any) -> None:
    """Fewer rounds on versions other than the machine's own: their rules of merging are the same."""
    rounds = ROUNDS if rig.version == OWN else ROUNDS // 3
    results = batch(rig, 1, rounds)
    assert results["merged"] >= rounds // 6, results
    assert results["refused"] >= rounds // 6, results


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 112))
def test_many_random_merges(own_rig: Any, seed: int) -> None:
    batch(own_rig, seed, ROUNDS)
