"""Who a container's process runs as: names become numbers by the container's own /etc/passwd and /etc/group.

Those files are hostile: a container's root writes them. Lines that do not parse are passed over, numbers beyond the
user namespace are refused, nothing is looked up on the host. Pure: the caller reads the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wye.errors import BadRequest

IDS = 65536
"""How many uids, and gids, a container's user namespace has."""


class UnknownUser(BadRequest):
    """A user or group that the container does not know."""

    code = "unknown_user"


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: frozenset[str]


def resolve(user: str, group_add: Sequence[str], passwd: bytes, group: bytes) -> Identity:
    """`user` as in an image config: "", "name", "uid", "name:group", "uid:gid".

    As elsewhere: a bare name or uid brings its account's group and the groups that list it as a member; a named
    group brings itself alone; a uid without an account has gid 0. Raises UnknownUser.
    """
    name, _, group_name = user.partition(":")
    accounts, groups = list(_accounts(passwd)), list(_groups(group))
    account = _account(name or "0", accounts)
    if account is None:
        if name and not _is_number(name):
            raise UnknownUser(
                f"no user {name!r} in the container's /etc/passwd", hint="use a numeric uid, or a user of the image"
            )
        account = _Account("", _number(name or "0", "uid"), 0, "/")
    gid = _gid(group_name, groups) if group_name else account.gid
    extra = {_gid(added, groups) for added in group_add}
    if not group_name and account.name:
        extra |= {found.gid for found in groups if account.name in found.members}
    return Identity(account.uid, gid, tuple(sorted(extra - {gid})), account.home or "/")


def _account(name: str, accounts: Iterable[_Account]) -> _Account | None:
    known = list(accounts)
    by_name = next((account for account in known if account.name == name), None)
    return by_name or next((account for account in known if account.uid == _id(name)), None)


def _gid(name: str, groups: Sequence[_Group]) -> int:
    found = next((group.gid for group in groups if group.name == name), None)
    if found is not None:
        return found
    if _is_number(name):
        return _number(name, "gid")
    raise UnknownUser(
        f"no group {name!r} in the container's /etc/group", hint="use a numeric gid, or a group of the image"
    )


def _number(text: str, what: str) -> int:
    number = _id(text)
    if number is None:
        raise UnknownUser(f"{what} {text[:20]} is beyond a container's range", hint=f"use one from 0 to {IDS - 1}")
    return number


def _accounts(passwd: bytes) -> Iterable[_Account]:
    for fields in _rows(passwd, 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if fields[0] and uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5])


def _groups(group: bytes) -> Iterable[_Group]:
    for fields in _rows(group, 4):
        gid = _id(fields[2])
        if fields[0] and gid is not None:
            yield _Group(fields[0], gid, frozenset(member for member in fields[3].split(",") if member))


def _rows(data: bytes, columns: int) -> Iterable[list[str]]:
    for line in data.decode(errors="replace").split("\n"):
        fields = line.split(":")
        if len(fields) >= columns and "\0" not in line:
            yield fields


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _id(text: str) -> int | None:
    # Bounded before int(): a thousand digits are no number of ours.
    if not _is_number(text) or len(text) > len(str(IDS)):
        return None
    return int(text) if int(text) < IDS else None
