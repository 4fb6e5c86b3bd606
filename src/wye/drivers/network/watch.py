"""Notices that somebody else takes out of the kernel what keeps environments apart.

`nft flush ruleset`, which a start of nftables.service begins with, removes everybody's tables. The kernel tells whoever
listens; what is told is looked at only as far as to know that something of our table may be gone, for whether it is,
the table itself says.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import closing

from wye.drivers.network.netlink import NETFILTER, Netlink, attributes
from wye.errors import WyeError

log = logging.getLogger(__name__)

_GROUP = 7  # NFNLGRP_NFTABLES
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_CHANGES = frozenset((0, 2, 3, 5, 8, 11))
"""NFT_MSG_: NEWTABLE (one may become dormant), DELTABLE, NEWCHAIN (policies), DELCHAIN, DELRULE, DELSET. What is done
all the time, to elements, is not among them."""
_FAMILY_BYTES = 4
_TABLE = 1  # NFTA_TABLE_TABLE, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and NFTA_SET_TABLE are all 1
_AGAIN_S = 1.0


class Watch:
    """A thread that has `table` made whole again whenever some of it may be gone.

    In the network namespace of the thread that constructs it. `restore` says whether there was something to do; if it
    fails it is tried again."""

    def __init__(self, table: str, restore: Callable[[], bool]) -> None:
        self._table = table
        self._restore = restore
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._news = Netlink(NETFILTER)
        self._news.join(_GROUP)
        self._thread = threading.Thread(target=self._run, name="wye-network-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Afterwards nothing is restored any more."""
        os.eventfd_write(self._ended, 1)
        self._thread.join()
        os.close(self._ended)

    def _run(self) -> None:
        with closing(self._news) as news:
            wait_s: float | None = None
            while True:
                ready, _, _ = select.select([self._ended, news.fileno()], [], [], wait_s)
                if self._ended in ready:
                    return
                if wait_s is None and not self._concerns_us(news):
                    continue
                wait_s = None if self._restored() else _AGAIN_S

    def _concerns_us(self, news: Netlink) -> bool:
        """Reads all that was told so far."""
        name = self._table.encode() + b"\0"
        concerns = False
        for kind, body in news.told():
            if kind is None:
                concerns = True  # more was told than there was room for
            elif kind >> 8 == _NFTABLES and kind & 0xFF in _CHANGES:
                concerns |= any(
                    number == _TABLE and value == name for number, value in attributes(body[_FAMILY_BYTES:])
                )
        return concerns

    def _restored(self) -> bool:
        try:
            if self._restore():
                log.warning("somebody took (part of) the firewall's table inet %s away; it is whole again", self._table)
        except WyeError as error:
            log.error("the firewall's table inet %s is not whole: %s", self._table, error)
            return False
        return True
