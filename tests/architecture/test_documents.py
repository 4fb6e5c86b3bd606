"""What people read is true: paths are there, options, commands, keys and words are all described, none is made up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from tests.architecture.conftest import MODULES, ROOT, SOURCE, Module

from wye.cli.commands import PANELS
from wye.compose import keys, settings
from wye.daemon.config import Config

DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "GLOSSARY.md", "CONTRIBUTING.md", "SECURITY.md",
                                  "CHANGELOG.md", "AGENTS.md")] + sorted(DOCS.rglob("*.md"))  # fmt: skip
ARCHITECTURE_WORDS = 2000
"""Four pages."""

NOUNS = (
    "project", "environment", "service", "container", "volume", "layer", "snapshot", "spec", "status", "revision",
    "entry", "ledger", "ref", "fork", "merge base", "ours", "theirs", "conflict", "resolution", "changes", "check",
    "rehearsal", "policy", "checkpoint", "restore", "quiesce", "resume", "lease", "reconcile", "plan", "step", "apply",
    "driver", "kind", "node", "placement", "collect",
)  # fmt: skip

NOT_USED = {
    "branch": {"branches"},
    "clone": {"clones", "cloned"},
    "copy": {"copies", "copied"},
    "sandbox": {"sandboxes"},
    "workspace": {"workspaces"},
    "sync": {"syncs", "synced"},
    "job": {"jobs"},
    "manager": {"managers"},
    "utils": {"util", "helper", "helpers", "misc"},
}
EXCUSED: dict[str, dict[str, str]] = {
    "branch": {"api/faults.py": "the branches of the error tree"},
    "clone": {
        "drivers/btrfs/stream.py": "the send stream's own command",
        "drivers/crun/": "clone(2) and its flags",
        "drivers/network/": "clone(2)'s flags",
        "kinds/files/inode.py": "the reflink ioctl (FICLONE)",
        "testing/mutator.py": "the reflink ioctl",
    },
    "copy": {
        "daemon/doors.py": "bytes, from one socket to another",
        "drivers/": "bytes or files, and no more than that",
        "engine/": "an environment on a snapshot's bytes that is in no ledger: a rehearsal, a throwaway server",
        "kinds/": "bytes or files; Postgres's COPY",
        "testing/": "bytes or files",
    },
    "sync": {
        "drivers/": "to the disk, as in fsync(2)",
        "kinds/": "to the disk, as in fsync(2)",
        "store/": "to the disk, as in fsync(2)",
        "testing/": "to the disk, as in fsync(2)",
    },
    "job": {"kinds/postgres/rows.py": "what a thread pool is given"},
}

_PATH = re.compile(r"(?<![\w./-])(?:src|tests|docs|examples|bench|bin|\.ci)/[A-Za-z0-9_./*-]+[A-Za-z0-9_*/]")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def listed(text: str) -> set[str]:
    """What stands in backquotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


def first_cells(text: str) -> str:
    """The first column of all tables."""
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))


# ---------------------------------------------------------------- paths and links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_are_there(page: Path) -> None:
    text = re.sub(r"https?://\S+|/(?:usr|var|etc|run|srv)/\S+", "", page.read_text())
    assert not [path for path in _PATH.findall(text) if not list(ROOT.glob(path.rstrip("/")))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in set(anchors(target))):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> Iterator[str]:
    """As the usual renderers name headings."""
    for heading in _HEADING.findall(page.read_text()):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_no_page_is_left_out() -> None:
    """Every decision is in the list of decisions, and every page of docs/ is linked from some other page."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in _LINK.findall(page.read_text())
        if not link.startswith("http")
    }
    listing = DOCS / "decisions"
    orphans = [
        page for page in DOCS.rglob("*.md") if page.resolve() not in linked and page.parent / "README.md" != page
    ]
    assert not orphans
    assert listing.resolve() in linked


# ---------------------------------------------------------------- architecture


def test_architecture_has_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    missing = [name_of(room) for room in rooms if room.stem != "__init__" and f"`{name_of(room)}`" not in text]
    assert not missing


def test_architecture_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= ARCHITECTURE_WORDS


def test_architecture_has_the_layers_that_are_tested() -> None:
    layers = re.search(r"exhaustive = true\nlayers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert layers is not None
    rows = "\n".join(re.findall(r'"(.*)"', layers[1]))
    assert rows in (ROOT / "ARCHITECTURE.md").read_text()


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("noun", NOUNS)
def test_noun_is_in_the_glossary(noun: str) -> None:
    words, _, _ = (ROOT / "GLOSSARY.md").read_text().partition("## Words that are not used")
    told = {part.strip() for cell in first_cells(words).splitlines() for part in cell.split(",")}
    assert noun in told


@pytest.mark.parametrize("word", NOT_USED)
def test_word_that_is_not_used_is_in_the_glossary(word: str) -> None:
    _, _, not_used = (ROOT / "GLOSSARY.md").read_text().partition("## Words that are not used")
    assert word in re.findall(r"\w+", first_cells(not_used))


@cache
def identifiers(module: Module) -> frozenset[str]:
    """The names that a module gives to something."""
    names = set()
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return frozenset(names)


@pytest.mark.parametrize("word", NOT_USED)
def test_word_that_is_not_used_is_in_no_identifier(word: str) -> None:
    forms = {word, *NOT_USED[word]}
    somewhere = re.compile("|".join(forms), re.IGNORECASE)
    found = [
        f"{module.name}: {name}"
        for module in MODULES
        if not any(module.name.startswith(excuse) for excuse in EXCUSED.get(word, {})) and somewhere.search(module.text)
        for name in sorted(identifiers(module))
        if forms & {part.lower() for part in _WORD.findall(name)}
    ]
    assert not found, "GLOSSARY.md says what to call it; an exception needs a reason above"


# ---------------------------------------------------------------- options, commands, keys, figures


def test_every_option_is_described_with_its_default() -> None:
    text = (DOCS / "configuration.md").read_text()
    rows = {cells[1].strip(" `"): cells for line in text.splitlines() if len(cells := line.split("|")) == 5}
    options = {field.name: field.default for field in fields(Config)}
    assert options.keys() == rows.keys() - {"option", "---"}
    for name, default in options.items():
        assert rows[name][2].strip(" `") == ("none" if default is None else str(default)), name
        assert len(rows[name][3]) > 10, name


def test_commands_in_pages_exist() -> None:
    """`wye COMMAND` anywhere, and no command without an entry in docs/cli.md."""
    commands = {name for panel in PANELS.values() for name in panel} | {"daemon"}
    asked = {
        (name_of(page), command)
        for page in PAGES
        for code in re.findall(r"^```\n.*?^```|`[^`\n]+`", page.read_text(), re.MULTILINE | re.DOTALL)
        for command in re.findall(r"^`?(?:bin/)?wye ([a-z][a-z-]*)", code, re.MULTILINE)
    }
    assert not [each for each in asked if each[1] not in commands]
    assert not [command for command in commands if f"`wye {command}" not in (DOCS / "cli.md").read_text()]


def test_compose_keys_are_where_they_belong() -> None:
    sections = re.split(r"^## ", (DOCS / "compose.md").read_text(), flags=re.MULTILINE)
    by_title = {section.splitlines()[0]: section for section in sections}
    assert listed(first_cells(by_title["Keys of a service that are read"])) == keys.SERVICE
    assert keys.HARMLESS.keys() == listed(by_title["Keys that are harmless"])
    assert keys.IDLE.keys() == listed(by_title["Keys that have no effect"])
    assert listed(first_cells(by_title["Keys that are refused"])) == keys.REFUSED.keys()
    own = by_title["`x-wye`"]
    assert {*settings.PASSED_ON, *settings.PASSED_ON_BY_SERVICE} <= listed(own)


def test_every_figure_is_described() -> None:
    tree = ast.parse((ROOT / "bench" / "__main__.py").read_text())
    tables = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and "BENCHMARKS" in ast.unparse(node.target)
    ]
    names = {ast.literal_eval(key) for table in tables if isinstance(table, ast.Dict) for key in table.keys if key}
    assert names
    assert listed(first_cells((DOCS / "figures.md").read_text())) == names


def test_the_picture_is_small_and_fetches_nothing() -> None:
    text = (DOCS / "demo.svg").read_text()
    assert len(text) < 100_000
    assert not re.findall(r"https?://(?!www\.w3\.org/|www\.textualize\.io)", text)
    assert not re.findall(r"/(?:work|home|root|tmp)/", text)
