"""The HTTP face of the engine: decode, call a verb in a worker thread, encode.

`application` (in `asgi`) makes the FastAPI app for an engine; `serving.serve` runs it. One module per group of
verbs; what they share is in `calls` (threads, streams) and `guard` (who may come in, how much they may send).
"""

from wye.daemon.routes.asgi import application, schema

__all__ = ["application", "schema"]
