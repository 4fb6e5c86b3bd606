"""What every implementation of Objects keeps. Subclass, and give the `objects` fixture an empty store."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from wye.errors import NotFound
from wye.interfaces import Objects
from wye.model import ObjectId

ABSENT = ObjectId("0" * 64)


class ObjectsContract:
    @pytest.fixture
    def objects(self) -> Objects:
        raise NotImplementedError

    @pytest.mark.parametrize("data", [b"", b"a", b"\x00\xff\n" * 3, bytes(range(256)) * 4096], ids=len)
    def test_what_was_put_comes_back(self, objects: Objects, data: bytes) -> None:
        object_id = objects.put(data)
        assert object_id == hashlib.sha256(data).hexdigest()
        assert objects.get(object_id) == data

    def test_equal_bytes_are_one_object(self, objects: Objects) -> None:
        assert objects.put(b"same") == objects.put(bytes(bytearray(b"same")))
        assert len(list(objects.ids())) == 1

    def test_absent_object_is_not_found(self, objects: Objects) -> None:
        with pytest.raises(NotFound, match=ABSENT):
            objects.get(ABSENT)

    def test_deleted_object_is_gone_and_can_come_back(self, objects: Objects) -> None:
        object_id = objects.put(b"x")
        objects.delete(object_id)
        objects.delete(object_id)
        with pytest.raises(NotFound):
            objects.get(object_id)
        assert list(objects.ids()) == []
        assert objects.put(b"x") == object_id
        assert objects.get(object_id) == b"x"

    def test_ids_are_listed_by_prefix(self, objects: Objects) -> None:
        there = {objects.put(b"%d" % n) for n in range(300)}
        assert sorted(objects.ids()) == sorted(there)
        first = min(there)
        for digits in (1, 2, 4, 63, 64):
            prefix = first[:digits]
            assert set(objects.ids(prefix)) == {i for i in there if i.startswith(prefix)}
        assert list(objects.ids("f" * 64)) == []

    def test_ids_may_be_deleted_while_they_are_listed(self, objects: Objects) -> None:
        for n in range(50):
            objects.put(b"%d" % n)
        for object_id in objects.ids():
            objects.delete(object_id)
        assert list(objects.ids()) == []

    def test_threads_may_put_and_get_at_once(self, objects: Objects) -> None:
        def put(n: int) -> bytes:
            return objects.get(objects.put(b"%d" % (n % 40)))

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(put, range(400))) == [b"%d" % (n % 40) for n in range(400)]
        assert len(list(objects.ids())) == 40
