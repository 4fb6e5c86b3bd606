"""Prints the OpenAPI document: `python -m wye.daemon.routes > docs/openapi.json` after a change of the wire."""

from __future__ import annotations

import json

from wye.daemon.routes.asgi import schema

print(json.dumps(schema(), indent=1, sort_keys=True))
