"""The fake keeps the same promises as the real store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wye.interfaces import silent
from wye.model import Build, ImageConfig
from wye.testing.contracts.images import ImagesContract
from wye.testing.memory_images import MemoryImages

CONFIG = ImageConfig(command=("run",))


class TestMemory(ImagesContract):
    @pytest.fixture
    def images(self, known: str) -> MemoryImages:
        return MemoryImages({known: CONFIG})

    @pytest.fixture
    def known(self) -> str:
        return "app:1"

    @pytest.fixture
    def move(self, images: MemoryImages, known: str) -> Callable[[], None]:
        return lambda: images.put(known, CONFIG, content="other") and None


def test_equal_contexts_build_equal_images() -> None:
    images = MemoryImages()
    first = images.build(Build(context="/app"), report=silent)
    assert images.build(Build(context="/app"), report=silent) == first
    assert images.build(Build(context="/app", args={"a": "b"}), report=silent) != first
    assert len(images.built) == 3
    assert first.digest in images.digests()
