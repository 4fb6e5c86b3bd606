"""PostGIS: values whose equality is not their text, an extension that owns a table with rows, and indexes of its own."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
PLACES = [
    "create table place (id serial primary key, name text, at geometry(point, 4326), area geography)",
    "insert into place (name, at) select 'place ' || n, st_setsrid(st_makepoint(n, n), 4326) from generate_series(1, 20) n",
]
OWN_SYSTEM = "insert into spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text) values (990001, 'shop', 1, '', '+proj=longlat')"


@pytest.fixture
def production(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, "create schema t")
    yield site
    site.discard()
    rig.sweep()


def test_places_of_both_sides(rig: Any, production: Any) -> None:
    production.run(APP, ["create extension postgis schema public", *PLACES, "create index on place using gist (at)"])
    fork = rig.fork(production)
    fork.run(APP, [
        "update place set at = 'srid=4326;point(50 60)' where id = 1", "update place set area = 'polygon((0 0, 0 1, 1 1, 0 0))' where id = 2",
        "insert into place (name, at) values ('new', 'srid=4326;point(0.1 -0)')", "create index on place using gist (area)", OWN_SYSTEM,
    ])  # fmt: skip
    production.run(APP, ["update place set name = 'live' where id in (1, 2)", "delete from place where id = 20",
                         "update spatial_ref_sys set srtext = 'live' where srid = 4326"])  # fmt: skip
    (changes,) = rig.diff(fork)
    fork.discard()
    undo = rig.apply(production, changes).undo
    assert production.query(APP, "select name, public.st_astext(at), public.st_astext(area) from t.place where id in (1, 2) or name = 'new' order by id") == [
        ("live", "POINT(50 60)", None),
        ("live", "POINT(2 2)", "POLYGON((0 0,0 1,1 1,0 0))"),
        ("new", "POINT(0.1 0)", None),
    ]  # fmt: skip
    assert production.query(APP, "select srid from public.spatial_ref_sys where auth_name = 'shop' or srtext = 'live' order by 1") == [(4326,), (990001,)]  # fmt: skip
    rig.apply(production, undo)
    assert production.query(APP, "select name, public.st_astext(at) from t.place where id = 1") == [
        ("live", "POINT(1 1)")
    ]
    assert production.query(APP, "select count(*) from public.spatial_ref_sys where auth_name = 'shop'") == [(0,)]


def test_one_place_moved_by_both(rig: Any, production: Any) -> None:
    production.run(APP, ["create extension postgis schema public", *PLACES])
    fork = rig.fork(production)
    fork.run(APP, "update place set at = 'srid=4326;point(50 60)' where id = 1")
    production.run(APP, "update place set at = 'srid=4326;point(7 7)' where id = 1")
    (changes,) = rig.diff(fork)
    fork.discard()
    with pytest.raises(Refused) as refused:
        rig.apply(production, changes)
    (conflict,) = refused.value.conflicts
    assert (conflict.kind, conflict.column) == ("update/update", "at")


def test_the_extension_comes_with_the_merge(rig: Any, production: Any) -> None:
    """Its own rows are there already when the fork's come."""
    production.run(APP, ["create table place (id int primary key, name text)", "insert into place values (1, 'here')"])
    fork = rig.fork(production)
    fork.run(
        APP,
        [
            "create extension postgis schema public",
            "alter table place add at geometry",
            "update place set at = 'point(1 2)'",
            OWN_SYSTEM,
        ],
    )
    (changes,) = rig.diff(fork)
    fork.discard()
    rig.apply(production, changes)
    assert production.query(APP, "select public.st_astext(at) from t.place") == [("POINT(1 2)",)]
    assert production.query(APP, "select count(*) from public.spatial_ref_sys where auth_name = 'shop'") == [(1,)]
