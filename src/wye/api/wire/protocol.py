"""The protocol's numbers, which both sides must agree on before anything can be said."""

from __future__ import annotations

API = 1
"""The number in `/v1`. A change that breaks an older client raises it."""

STDIN, STDOUT, STDERR = 0, 1, 2
"""The first byte of a binary frame of exec."""

FRAME_BYTES = 64 * 1024
"""The most that one frame of exec carries."""
