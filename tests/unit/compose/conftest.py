"""A project on disk, loaded; and the oracle: whatever we accept, the compose specification's own schema accepts too."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import ruamel.yaml

from wye.compose.load import Loaded, Source, load
from wye.compose.nodes import ComposeError
from wye.model import Service

SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


class Oracle:
    """The compose specification's schema, as `check-jsonschema --builtin-schema vendor.compose-spec` applies it."""

    def objection(self, text: str) -> str | None:
        """Why the schema refuses a document; None: it accepts it."""
        return self.objection_to(_with_text_keys(ruamel.yaml.YAML(typ="safe").load(text)))

    def objection_to(self, document: Any) -> str | None:
        error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
        return None if error is None else f"{error.json_path}: {error.message}"

    def service_keys(self) -> set[str]:
        """The keys that the schema allows in a service."""
        definitions = json.loads(SCHEMA.read_text())["$defs"]
        return {
            key for part in ("service", "container_spec", "workload_spec") for key in definitions[part]["properties"]
        }


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


class Project:
    """A directory with files. `load` takes the text of compose.yaml; what is accepted must please the oracle."""

    def __init__(self, directory: Path, oracle: Oracle) -> None:
        self.directory = directory
        self.oracle = oracle

    def write(self, name: str, text: str = "") -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def load(self, text: str | None = None, *, lenient: bool = False, judged: bool = True, **source: Any) -> Loaded:
        if text is not None:
            self.write("compose.yaml", text)
        loaded = load(Source(directory=self.directory, **source), lenient=lenient)
        if text is not None and judged and not lenient:
            assert self.oracle.objection(dedent(text)) is None
        return loaded

    def service(self, body: str, *, top: str = "", **options: Any) -> Service:
        """One service `web` with an image and `body`."""
        return self.load(self.text(body, top), **options).spec.services["web"]

    def refusal(self, body: str, *, top: str = "", **options: Any) -> ComposeError:
        """The error for a service `web` with `body`."""
        return self.error(self.text(body, top), **options)

    def error(self, text: str | None = None, **source: Any) -> ComposeError:
        with pytest.raises(ComposeError) as caught:
            self.load(text, **source)
        return caught.value

    @staticmethod
    def text(body: str, top: str = "") -> str:
        indented = "".join(f"    {line}\n" for line in dedent(body).strip("\n").splitlines())
        further = top if top.startswith("  ") else dedent(top)
        return f"services:\n  web:\n    image: debian\n{indented}{further}"


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def project(tmp_path: Path, oracle: Oracle) -> Project:
    directory = tmp_path / "shop"
    directory.mkdir()
    return Project(directory, oracle)


@pytest.fixture
def messages() -> Callable[[Loaded], list[str]]:
    """What the user is told, as `key: message`."""
    return lambda loaded: [f"{notice.key}: {notice.message}" for notice in loaded.notices]
