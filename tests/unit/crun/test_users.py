from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.drivers.crun.users import IDS, Identity, UnknownUser, resolve

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n7:x:70:71::/seven:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1001:\ndocker:x:50:app,other\n9:x:90:\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("root", Identity(0, 0, (), "/root")),
        ("app", Identity(1000, 1001, (50,), "/home/app")),
        ("1000", Identity(1000, 1001, (50,), "/home/app")),
        ("app:root", Identity(1000, 0, (), "/home/app")),
        ("app:60", Identity(1000, 60, (), "/home/app")),
        ("55", Identity(55, 0, (), "/")),
        ("55:docker", Identity(55, 50, (), "/")),
        (":docker", Identity(0, 50, (), "/root")),
        # A name that looks like a number is a name first, as shadow's tools have it.
        ("7", Identity(70, 71, (), "/seven")),
        ("0:9", Identity(0, 90, (), "/root")),
    ],
)
def test_users(user: str, expected: Identity) -> None:
    assert resolve(user, (), PASSWD, GROUP) == expected


def test_groups_may_be_added() -> None:
    assert resolve("app", ("docker", "77"), PASSWD, GROUP).groups == (50, 77)
    assert resolve("55", ("docker",), PASSWD, GROUP).groups == (50,)


@pytest.mark.parametrize("user", ["nobody", "app:nobody", "65536", "0:65536", "9" * 5000, "-1", "²", "a b", "\0"])
def test_unknown_or_impossible(user: str) -> None:
    with pytest.raises(UnknownUser) as caught:
        resolve(user, (), PASSWD, GROUP)
    assert caught.value.hint is not None


def test_an_image_without_accounts_has_root() -> None:
    assert resolve("", (), b"", b"") == Identity(0, 0, (), "/")


@given(st.sampled_from(["", "app", "app:app", "1000", "x:y"]), st.binary(), st.binary())
def test_whatever_the_files_hold(user: str, passwd: bytes, group: bytes) -> None:
    try:
        found = resolve(user, (), PASSWD + passwd, GROUP + group)
    except UnknownUser:
        return
    assert 0 <= found.uid < IDS
    assert 0 <= found.gid < IDS


@pytest.mark.parametrize(
    "line", ["app:x:70000:0::/:", "app:x:-1:0::/:", "app:x:1e3:0::/:", "app:x::0::/:", "app:x:0", ":x:0:0::/:", "app"]
)
def test_a_line_that_does_not_parse_is_no_account(line: str) -> None:
    with pytest.raises(UnknownUser):
        resolve("app", (), line.encode(), b"")
