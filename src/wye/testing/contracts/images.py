"""What every implementation of Images keeps.

Subclass, and give the fixtures `images` (opened, nothing in it yet), `known` (a reference that leads to an image)
and `move` (a function that makes `known` lead to another image from then on).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wye.errors import NotFound
from wye.interfaces import Images, Progress, silent
from wye.model import Image, ImageConfig


class ImagesContract:
    @pytest.fixture
    def images(self) -> Images:
        raise NotImplementedError

    @pytest.fixture
    def known(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def move(self) -> Callable[[], None]:
        raise NotImplementedError

    def test_nothing_is_there_at_first(self, images: Images) -> None:
        assert images.digests() == frozenset()

    def test_an_image_is_fetched_once_and_said_so(self, images: Images, known: str) -> None:
        said: list[Progress] = []
        assert images.present(known) is None
        image = images.resolve(known, pull=False, report=said.append)
        assert images.present(known) == image
        assert image.reference == known
        assert images.digests() == {image.digest}
        assert images.rootfs(image).name == "rootfs"
        assert said
        said.clear()
        assert images.resolve(known, pull=False, report=said.append) == image
        assert said == []

    def test_an_unknown_image_is_not_found_with_a_hint(self, images: Images, known: str) -> None:
        with pytest.raises(NotFound) as caught:
            images.resolve(f"{known}-unknown", pull=False, report=silent)
        assert caught.value.hint
        assert images.digests() == frozenset()

    def test_a_reference_that_moved_is_followed_on_request(
        self, images: Images, known: str, move: Callable[[], None]
    ) -> None:
        first = images.resolve(known, pull=False, report=silent)
        move()
        assert images.resolve(known, pull=False, report=silent) == first
        second = images.resolve(known, pull=True, report=silent)
        assert second.digest != first.digest
        assert images.resolve(known, pull=False, report=silent) == second
        assert images.digests() == {first.digest, second.digest}, "what ran before can still run"

    def test_a_deleted_image_is_gone_and_can_be_fetched_again(self, images: Images, known: str) -> None:
        image = images.resolve(known, pull=False, report=silent)
        images.delete(image.digest)
        images.delete(image.digest)
        assert images.digests() == frozenset()
        with pytest.raises(NotFound):
            images.rootfs(image)
        assert images.resolve(known, pull=False, report=silent) == image
        assert images.digests() == {image.digest}

    def test_what_was_never_here_has_no_files(self, images: Images) -> None:
        for digest in ("0" * 64, "", "..", "../../etc"):
            with pytest.raises(NotFound):
                images.rootfs(Image(reference="x", digest=digest, config=ImageConfig()))
            images.delete(digest)
