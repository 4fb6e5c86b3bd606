"""libnftables, in this process: no program is started, and a command takes 0.1 ms.

Owns one context of the library, which speaks for the network namespace of the thread that made it. A text is one
transaction: the kernel takes all of it or nothing. Measured: inserting an element takes as long with 20,000 elements
as with 10.
"""

from __future__ import annotations

import ctypes
import json
import threading
from functools import cache
from typing import Any

from wye.errors import Unavailable, Unsupported

_JSON = 1 << 4
_one_at_a_time = threading.Lock()
"""For all contexts: the library does not say that two of them may run at once."""


class RulesRefused(Unavailable):
    """nftables did not accept a text; nothing of it took effect."""

    code = "rules_refused"


class Nftables:
    """A context in the calling thread's network namespace; afterwards any thread may use it.

    Raises Unsupported where the library is missing."""

    def __init__(self) -> None:
        self._library = _load()
        with _one_at_a_time:
            self._context: int | None = self._library.nft_ctx_new(0)
            if self._context is None:
                raise Unavailable("libnftables gave no context")
            self._library.nft_ctx_buffer_error(self._context)
            self._library.nft_ctx_buffer_output(self._context)

    def run(self, text: str) -> None:
        """Carries out `text`, in the language of nft(8), as one transaction. Raises RulesRefused."""
        with _one_at_a_time:
            if self._library.nft_run_cmd_from_buffer(self._context, text.encode()) != 0:
                message = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
                raise RulesRefused(f"nftables refused a change: {message.strip()[:500]}")

    def check(self, text: str) -> None:
        """Has the kernel look at `text` and take none of it. Raises RulesRefused."""
        self._library.nft_ctx_set_dry_run(self._context, True)
        try:
            self.run(text)
        finally:
            self._library.nft_ctx_set_dry_run(self._context, False)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """What `nft -j list` says of "chains", of "table ip filter": chains, rules and so on, without their kinds."""
        with _one_at_a_time:
            self._library.nft_ctx_output_set_flags(self._context, _JSON)
            failed = self._library.nft_run_cmd_from_buffer(self._context, f"list {what}".encode()) != 0
            said = self._library.nft_ctx_get_output_buffer(self._context)
            self._library.nft_ctx_output_set_flags(self._context, 0)
        if failed:
            raise RulesRefused(f"nftables does not list {what}")
        return [value for item in json.loads(said)["nftables"] for kind, value in item.items() if kind != "metainfo"]

    def layout(self, table: str) -> list[dict[str, Any]]:
        """The parts of table inet `table`, its rules among them, but not what its sets hold. Empty: there is none."""
        try:
            found = self.listed(f"table inet {table}")
        except RulesRefused:
            return []
        return [{name: value for name, value in part.items() if name not in ("handle", "elem")} for part in found]

    def close(self) -> None:
        with _one_at_a_time:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None


@cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise Unsupported("libnftables is not installed", hint="install the package libnftables1") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library
