"""The real store keeps the contract, with a real registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wye.interfaces import Images
from wye.testing.contracts.images import ImagesContract


@pytest.mark.host
class TestStore(ImagesContract):
    @pytest.fixture
    def images(self, new_store: Callable[..., Images]) -> Images:
        return new_store()

    @pytest.fixture
    def known(self, pusher: Any, request: pytest.FixtureRequest) -> str:
        reference: str = pusher.push(f"contract/{abs(hash(request.node.name))}:1", [pusher.layer(pusher.member("one"))])
        return reference

    @pytest.fixture
    def move(self, pusher: Any, known: str) -> Callable[[], None]:
        name = known.partition("/")[2]
        return lambda: pusher.push(name, [pusher.layer(pusher.member("two"))]) and None
