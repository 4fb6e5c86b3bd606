"""Files whose names are no text: they come with a merge like any other, and go when it is taken back."""

from __future__ import annotations

import pytest

from tests.acceptance.test_merge import Shop, shop  # noqa: F401 - the fixture

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

NAMES = r"'/docs/bad\377name' '/docs/two\nlines' '/docs/esc\033[2J'"


def test_files_whose_names_are_no_text_come_and_go(shop: Shop) -> None:  # noqa: F811
    before = shop.state()
    shop.project.fork()
    shop.sh("f", f'for name in {NAMES}; do echo fork > "$(printf "$name")"; done', "docs")
    done = shop.merged()
    assert shop.sh("production", f'for name in {NAMES}; do cat "$(printf "$name")"; done', "docs") == "fork\n" * 3
    assert done.entry
    assert shop.project.client.revert(done.entry).merged
    assert shop.state() == before
