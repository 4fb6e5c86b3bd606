"""One database on both sides of a diff, while it is read: the base's server, which nobody else uses, and the fork's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from wye.host import Host
from wye.kinds.postgres.blocks import ChangedBlocks
from wye.kinds.postgres.session import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """One database while it is read: base and fork."""

    host: Host
    executor: Executor
    database: str
    base: Connection
    fork: Connection
    blocks: ChangedBlocks
    descends: bool
    is_marked: bool = False
    """Both have the mark of one preparation: a transaction's number means the same transaction on both."""

    def both(self, read: Callable[[Connection], T]) -> tuple[T, T]:
        """What it answers for the base and for the fork, asked at the same time."""
        before, after = self.executor.map(read, (self.base, self.fork))
        return before, after

    @property
    def place(self) -> str:
        return f"postgres/{self.database}"
