"""The SDK: the verbs of the engine, called over the socket.

    import wye
    client = wye.connect()
    client.fork("production", "fix-1")
    client.exec("fix-1", ["psql", "-U", "shop", "-c", "drop table orders"], service="db")
    client.discard("fix-1")

Answers are the values of `api.wire`. Errors are those of `wye.errors`, raised here as they were there, with their
hint. A `Client` may be used by several threads at once. The command line uses nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wye.api import start, wire
from wye.api.caller import Caller, Progress, path_of, quoted
from wye.api.process import ExecResult, RemoteProcess, exec_request
from wye.api.transport import NotListening, Transport, parse_address
from wye.api.values import made, news, read
from wye.errors import Unsupported
from wye.host import Host


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    may_start: bool = True,
    note: Callable[[str], None] | None = None,
) -> Client:
    """A client of the daemon at `address`: "unix:///run/wye/wye.sock" (the default) or "http://host:port".

    What is not given is taken from WYE_ADDRESS (or WYE_SOCKET, a path) and WYE_TOKEN; the default is in WYE_RUN, if
    that is set, as the daemon's is. There root starts the daemon if it does not run and `may_start`, and `note` is
    told so. Raises BadRequest; Denied and Unavailable if the daemon cannot be reached.
    """
    run = Path(os.environ.get("WYE_RUN") or start.RUN)
    usual = f"unix://{run / start.SOCKET}"
    chosen = address or os.environ.get("WYE_ADDRESS") or os.environ.get("WYE_SOCKET") or usual
    transport = Transport(parse_address(chosen), token=token or os.environ.get("WYE_TOKEN"))
    client = Client(transport)
    try:
        _agree(transport)
    except NotListening:
        if not may_start or str(transport.address) != usual or os.geteuid() != 0:
            raise
        log = Path(os.environ.get("WYE_LOG") or start.LOG)
        start.start(Host(), run=run, log=log, note=note or (lambda _: None))
        _agree(transport)
    return client


def _agree(transport: Transport) -> None:
    """Raises Unsupported for a daemon that speaks another version of the protocol, BadAnswer for what is no daemon."""
    data = transport.request("GET", "/v1/version")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        if json.loads(data)["api"] == wire.API:
            return
    found = read(wire.Version, data)
    raise Unsupported(
        f"the daemon speaks version {found.api} of the protocol, this client version {wire.API}",
        hint=f"install wye {found.version} here, or this version there",
    )


class Client(Caller):
    """The verbs. `connect` makes one."""

    # ------------------------------------------------------------ what is there

    def version(self) -> wire.Version:
        return self._get(lambda: wire.Version, "/v1/version")

    def environments(self, project: str | None = None) -> tuple[wire.EnvironmentView, ...]:
        """All environments, or those of one project; without their disk usage."""
        return self._list(lambda: wire.EnvironmentView, "/v1/environments", project=project)

    def environment(self, name: str) -> wire.EnvironmentView:
        return self._get(lambda: wire.EnvironmentView, path_of(name))

    def ports(self, name: str, service: str | None = None, port: int | None = None) -> tuple[wire.PortView, ...]:
        """Its published ports; only those of `service`, only container port `port`."""
        return self._list(lambda: wire.PortView, path_of(name, "ports"), service=service, port=port)

    # ------------------------------------------------------------ up and down

    def up(
        self,
        directory: str | Path = ".",
        *,
        name: str = "production",
        files: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        env_file: str | None = None,
        profiles: Sequence[str] = (),
        project: str | None = None,
        lenient: bool = False,
        pull: bool = False,
        wait: bool = True,
        wait_timeout_s: float = 120.0,
        progress: Progress | None = None,
    ) -> wire.UpResult:
        """Brings `name` to what the compose file in `directory` says; changes only what differs.

        `environment`: what `${...}` may name, this process's own variables if None. With `wait` it returns when
        every service runs and is healthy; CheckFailed if one is not within `wait_timeout_s`."""
        options = {"profiles": profiles, "project": project, "lenient": lenient, "pull": pull}
        waiting = {"wait": wait, "wait_timeout_s": wait_timeout_s}
        request = _up_request(directory, files, environment, env_file, **options, **waiting)
        return self._stream(wire.UpResult, "POST", path_of(name, "up"), request, progress)

    def config(
        self,
        directory: str | Path = ".",
        *,
        files: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        env_file: str | None = None,
        profiles: Sequence[str] = (),
        project: str | None = None,
        lenient: bool = False,
    ) -> wire.ConfigResult:
        """The compose file as wye understands it. Changes nothing."""
        options = {"profiles": profiles, "project": project, "lenient": lenient}
        return self._post(
            wire.ConfigResult, "/v1/config", _up_request(directory, files, environment, env_file, **options)
        )

    def down(self, name: str, *, progress: Progress | None = None) -> wire.EnvironmentView:
        """Stops and removes its containers and network, and gives its ports back. Its bytes stay."""
        return self._stream(wire.EnvironmentView, "POST", path_of(name, "down"), None, progress)

    def start(
        self, name: str, services: Sequence[str] = (), *, progress: Progress | None = None
    ) -> wire.EnvironmentView:
        return self._change(name, "start", services, progress)

    def stop(
        self, name: str, services: Sequence[str] = (), *, progress: Progress | None = None
    ) -> wire.EnvironmentView:
        return self._change(name, "stop", services, progress)

    def restart(
        self, name: str, services: Sequence[str] = (), *, progress: Progress | None = None
    ) -> wire.EnvironmentView:
        return self._change(name, "restart", services, progress)

    def sleep(self, name: str, *, progress: Progress | None = None) -> wire.EnvironmentView:
        """Stops everything; what is asked of it next wakes it."""
        return self._stream(wire.EnvironmentView, "POST", path_of(name, "sleep"), None, progress)

    def wake(self, name: str, *, progress: Progress | None = None) -> wire.EnvironmentView:
        return self._stream(wire.EnvironmentView, "POST", path_of(name, "wake"), None, progress)

    # ------------------------------------------------------------ forks

    def fork(
        self,
        source: str = "production",
        name: str | None = None,
        *,
        count: int = 1,
        revision: str | None = None,
        asleep: bool = False,
        disk_bytes: int | None = None,
    ) -> wire.ForkResult:
        """A new environment with all the bytes that `source` has now, or had at `revision`.

        `count` > 1 makes `name`-1 … `name`-N at one instant. `asleep`: started when first used."""
        request = made(
            wire.ForkRequest, name=name, count=count, revision=revision, asleep=asleep, disk_bytes=disk_bytes
        )
        return self._post(wire.ForkResult, path_of(source, "fork"), request)

    def discard(
        self, name: str, *, confirm_production: bool = False, progress: Progress | None = None
    ) -> wire.EntryView:
        """Deletes it and its bytes. Its ledger stays; forks of it live on."""
        path = f"{path_of(name)}?confirm_production={str(confirm_production).lower()}"
        return self._stream(wire.EntryView, "DELETE", path, None, progress)

    def rename(self, name: str, new_name: str) -> wire.EnvironmentView:
        return self._post(wire.EnvironmentView, path_of(name, "rename"), made(wire.RenameRequest, name=new_name))

    # ------------------------------------------------------------ history

    def snapshot(self, name: str, message: str = "") -> wire.SnapshotResult:
        return self._post(wire.SnapshotResult, path_of(name, "snapshot"), made(wire.SnapshotRequest, message=message))

    def restore(self, name: str, revision: str, *, progress: Progress | None = None) -> wire.EnvironmentView:
        """Brings all its bytes and its spec back to what they were at `revision`."""
        request = made(wire.RestoreRequest, revision=revision)
        return self._stream(wire.EnvironmentView, "POST", path_of(name, "restore"), request, progress)

    def log(self, name: str, *, limit: int = 50, verify: bool = False) -> wire.LogResult:
        """Its ledger, newest first. `verify` recomputes the hash of every link."""
        return self._get(lambda: wire.LogResult, path_of(name, "log"), limit=limit, verify=verify)

    def show(self, entry_or_revision: str) -> wire.EntryView:
        """One entry; of a merge with its `evidence`: what was merged, the checks and their output."""
        return self._get(lambda: wire.EntryView, f"/v1/entries/{quoted(entry_or_revision)}")

    # ------------------------------------------------------------ what differs, and merging it

    def diff(
        self,
        name: str,
        *,
        against: str | None = None,
        service: str | None = None,
        offset: int = 0,
        limit: int = 1000,
        rows: bool = True,
        text: bool = False,
    ) -> wire.DiffResult:
        """What differs from `against`: an environment or a revision; None: from what it was forked at.

        `service`: only what is its own. `rows` False: databases are told in a line each, which is quick. `text`: with
        unified diffs. `offset` and `limit` count files, and in each database rows or keys."""
        page = {"offset": offset, "limit": limit}
        what = {"against": against, "service": service, "rows": rows, "text": text}
        return self._get(lambda: wire.DiffResult, path_of(name, "diff"), **what, **page)

    def patch(self, name: str, *, against: str | None = None) -> bytes:
        """The changes of text files, for `git apply`."""
        return self._fetch(path_of(name, "patch"), against=against)

    def merge(
        self,
        name: str,
        *,
        into: str | None = None,
        resolutions: wire.Resolutions | None = None,
        rehearse_only: bool = False,
        checks: Sequence[str] = (),
        message: str = "",
        progress: Progress | None = None,
    ) -> wire.MergeResult:
        """Merges what `name` has changed into `into` (None: what it was forked from), wholly or not at all.

        `resolutions`: by conflict id "ours", "theirs" or {"value": ...}; "default" for all others. `checks`: commands
        for the rehearsal's shell, besides the project's own. Where there are conflicts, or a check fails, nothing has
        changed and the result says so."""
        decided = {"into": into, "resolutions": resolutions or {}}
        request = made(wire.MergeRequest, rehearse_only=rehearse_only, checks=checks, message=message, **decided)
        return self._stream(wire.MergeResult, "POST", path_of(name, "merge"), request, progress)

    def conflicts(
        self,
        name: str,
        *,
        into: str | None = None,
        resolutions: wire.Resolutions | None = None,
        progress: Progress | None = None,
    ) -> wire.MergeResult:
        """What a merge would find in conflict. Changes nothing."""
        request = made(wire.ConflictsRequest, into=into, resolutions=resolutions or {})
        return self._stream(wire.MergeResult, "POST", path_of(name, "conflicts"), request, progress)

    def revert(
        self, entry: str, *, resolutions: wire.Resolutions | None = None, progress: Progress | None = None
    ) -> wire.MergeResult:
        """Takes back what the merge `entry` did. What was done since stays."""
        request = made(wire.ResolutionsRequest, resolutions=resolutions or {})
        return self._stream(wire.MergeResult, "POST", f"/v1/entries/{quoted(entry)}/revert", request, progress)

    def update(
        self, name: str, *, resolutions: wire.Resolutions | None = None, progress: Progress | None = None
    ) -> wire.MergeResult:
        """Merges into a fork what its source has changed since."""
        request = made(wire.ResolutionsRequest, resolutions=resolutions or {})
        return self._stream(wire.MergeResult, "POST", path_of(name, "update"), request, progress)

    # ------------------------------------------------------------ inside

    def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        service: str | None = None,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
    ) -> ExecResult:
        """Runs `argv` in `service` (default: the environment's shell) to its end; wakes a sleeping environment."""
        options = {"service": service, "env": dict(env or {}), "working_dir": working_dir, "user": user}
        request = exec_request(argv, **options, stdin=stdin is not None)
        with self._process(name, request) as process:
            return process.communicate(stdin, timeout_s=timeout_s)

    def exec_stream(
        self,
        name: str,
        argv: Sequence[str],
        *,
        service: str | None = None,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        user: str | None = None,
        stdin: bool = False,
        tty: bool = False,
        rows: int = 24,
        columns: int = 80,
    ) -> RemoteProcess:
        """The same while it runs: iterate for its output, `write` to its stdin if `stdin`."""
        options = {"service": service, "env": dict(env or {}), "working_dir": working_dir, "user": user}
        terminal = {"tty": tty, "rows": rows, "columns": columns}
        return self._process(name, exec_request(argv, **options, **terminal, stdin=stdin))

    def logs(
        self,
        name: str,
        services: Sequence[str] = (),
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> Iterator[wire.LogLine]:
        """What its services have written; with `follow` also what they will, until the iterator is closed."""
        query = {"service": tuple(services), "since": since_at, "tail": tail, "follow": follow}
        for line in self._transport.lines("GET", path_of(name, "logs"), query=query):
            yield news(wire.LogLine, line)

    # ------------------------------------------------------------ the machine

    def events(self, *, since_at: float | None = None, follow: bool = False) -> Iterator[wire.Event]:
        """What has happened lately; with `follow` also what will, until the iterator is closed."""
        for line in self._transport.lines("GET", "/v1/events", query={"since": since_at, "follow": follow}):
            yield news(wire.Event, line)

    def collect(self, *, images: bool = False, progress: Progress | None = None) -> wire.CollectResult:
        """Deletes what nothing refers to; with `images` also images that nothing uses."""
        return self._stream(
            wire.CollectResult, "POST", "/v1/collect", made(wire.CollectRequest, images=images), progress
        )

    def doctor(self) -> tuple[wire.Finding, ...]:
        """What the daemon's machine can do, what is missing, and the fix."""
        return self._list(lambda: wire.Finding, "/v1/doctor")


def _up_request(
    directory: str | Path,
    files: Sequence[str],
    environment: Mapping[str, str] | None,
    env_file: str | None,
    **options: Any,
) -> wire.UpRequest:
    return made(
        wire.UpRequest,
        directory=os.path.abspath(directory),
        files=files,
        environment=dict(os.environ if environment is None else environment),
        env_file=env_file,
        **options,
    )
