"""The composition root: config → host → drivers → engine → sockets. The only module that knows which drivers exist.

Services do not need this process: killed, it leaves them running, and the next start adopts them.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from wye.daemon import config as configuration
from wye.daemon import diagnosis, restarting
from wye.daemon.config import Config
from wye.daemon.doors import HostDoors
from wye.daemon.routes import application, serving
from wye.daemon.supervise import ThreadSupervisor
from wye.drivers.btrfs.pool import Pool
from wye.drivers.crun.runtime import CrunRuntime
from wye.drivers.images.store import ImageStore
from wye.drivers.network.network import LinuxNetwork
from wye.engine.collect import collect
from wye.engine.context import Engine, Settings
from wye.engine.events import Events
from wye.engine.reconcile import reconcile
from wye.engine.sleep import ensure_awake
from wye.engine.uninstall import uninstall
from wye.errors import Conflict, WyeError
from wye.host import Host
from wye.interfaces import Finding, silent
from wye.kinds.postgres.kind import PostgresKind
from wye.kinds.redis.kind import RedisKind
from wye.kinds.trees.kind import Trees
from wye.model import EnvironmentName, Verb
from wye.store.ledger import Ledger
from wye.store.sqlite import SqliteStore

logger = logging.getLogger("wye")

ROOT_HOLDS = ("wye.db", "wye.db-wal", "wye.db-shm", "cache", "pool.img.lock")
RUN_HOLDS = ("wye.sock", "containers", "network", "tmp", "daemon.lock", "start.lock")
LOG_HOLDS = ("containers", "daemon.log")
"""What a daemon keeps there besides the pool. The directories may be shared with others."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """All that runs, made by `build`, begun by `start`, ended by `stop`."""

    config: Config
    engine: Engine
    store: SqliteStore
    supervisor: ThreadSupervisor
    doors: HostDoors
    network: LinuxNetwork
    pool: Pool
    runtime: CrunRuntime
    ended: threading.Event

    def start(self) -> None:
        """Brings what is there to what is recorded, then begins to watch."""
        engine = self.engine
        self.supervisor.serve(lambda name, container: restarting.restart(engine, name, container))
        for line in reconcile(engine):
            logger.info("reconcile: %s", line)

        def knock(name: EnvironmentName, key: str) -> tuple[str, int]:
            environment = ensure_awake(engine, name, actor="knock")
            engine.turns.await_open(name)
            return engine.network.dial(environment.id, key)

        self.doors.serve(knock)
        threading.Thread(target=self._collect_now_and_then, name="collect", daemon=True).start()

    def stop(self) -> None:
        """Services go on."""
        self.ended.set()
        self.supervisor.close()
        self.doors.close()
        self.network.close()
        self.store.close()

    def _collect_now_and_then(self) -> None:
        """Frees the snapshots of what was discarded, some time after the last of it."""
        kinds: set[str] = set()
        with self.engine.events.listen() as news:
            while not self.ended.wait(self.config.collect_interval_s):
                while not news.empty():
                    kinds.add(news.get_nowait().kind)
                if not kinds & {str(Verb.DISCARD), str(Verb.RESTORE)}:
                    continue
                try:
                    collect(self.engine, report=silent)
                    kinds.clear()
                except WyeError as error:
                    logger.warning("collect: %s", error.message)
                except Exception:
                    logger.exception("collect")


def build(config: Config, host: Host) -> Daemon:
    """Puts the parts together. Touches nothing on the machine but its own directories."""
    for directory, mode in ((config.root, 0o711), (config.run, 0o711), (config.log, 0o750)):
        host.make_directory("daemon:directories", directory, mode=mode)
    temporary = config.run / "tmp"  # not the machine's: what a daemon leaves there when it dies is found and removed
    host.remove_tree("daemon:temporary", temporary)
    host.make_directory("daemon:temporary", temporary, mode=0o700)
    tempfile.tempdir = str(temporary)
    volumes = _pool(config, host)
    volumes.open()
    scratch = volumes.path / "scratch"  # of the pool, where a copy of a file costs nothing
    host.remove_tree("daemon:scratch", scratch)
    host.make_directory("daemon:scratch", scratch, mode=0o700)
    images = ImageStore(host, directory=volumes.path / "images", cache=config.root / "cache", uid_base=config.uid_base)
    images.open()
    runtime = CrunRuntime(
        host, directory=config.run / "containers", log_directory=config.log / "containers", uid_base=config.uid_base
    )
    network = LinuxNetwork(
        host,
        directory=config.run / "network",
        uplinks=config.uplinks,
        table=config.instance,
        prefix=config.instance,
    )
    store = SqliteStore(host, config.database)
    events = Events()
    supervisor = ThreadSupervisor(host, runtime, events.emit)
    doors = HostDoors(host, first=config.port_first, last=config.port_last)
    engine = Engine(
        host=host,
        ledger=Ledger(store, store),
        volumes=volumes,
        images=images,
        runtime=runtime,
        network=network,
        doors=doors,
        supervisor=supervisor,
        files=Trees(host, uid_base=config.uid_base, scratch=scratch),
        kinds=(PostgresKind(host), RedisKind(host)),
        probes=(
            ("pool", lambda: _findings("pool", volumes.findings(), "snapshots, usage and limits work")),
            ("containers", runtime.diagnose),
            ("network", network.diagnose),
            ("images", images.diagnose),
            ("daemon", lambda: diagnosis.findings(config, volumes.capacity())),
        ),
        settings=Settings(
            subnet=config.subnet,
            resolver=_resolver(),
            uid_base=config.uid_base,
            fork_disk_bytes=config.fork_disk_bytes,
            warm_networks=config.warm_networks,
            shell_image=config.shell_image,
        ),
        events=events,
    )
    return Daemon(config, engine, store, supervisor, doors, network, volumes, runtime, threading.Event())


def _pool(config: Config, host: Host) -> Pool:
    if config.pool is not None:
        return Pool(host, path=config.pool, image=None)
    size = configuration.pool_bytes(config)
    return Pool(host, path=config.root / "pool", image=config.root / "pool.img", image_bytes=size)


def _findings(subject: str, problems: list[tuple[str, str]], well: str) -> list[Finding]:
    """A driver's (what, what to do), or that all is well."""
    if not problems:
        return [Finding(subject=subject, level="ok", text=well)]
    return [Finding(subject=subject, level="warning", text=text, fix=fix) for text, fix in problems]


def _resolver() -> str:
    """The host's nameservers; behind a stub resolver on loopback, those that the stub asks."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        servers = [line for line in lines if line.startswith("nameserver")]
        if any(not line.split()[-1].startswith("127.") for line in servers):
            return "\n".join(lines) + "\n"
    return ""


def _token(config: Config) -> str | None:
    if config.token_file is None:
        return None
    return config.token_file.read_text().strip()


def run(config: Config, host: Host) -> int:
    """Serves until it is told to end. Returns the exit status."""
    host.make_directory("daemon:directories", config.run, mode=0o711)
    with host.lock("daemon:lock", config.run / "daemon.lock", wait=False) as alone:
        if not alone:
            raise Conflict(f"a daemon runs already in {config.run}", hint="see 'wye daemon status'")
        daemon = build(config, host)
        daemon.start()
        listeners = [serving.listen_unix(config.socket)]
        if config.listen is not None:
            address, _, port = config.listen.rpartition(":")
            listeners.append(serving.listen_tcp(address.strip("[]"), int(port)))
        try:
            serving.serve(application(daemon.engine, token=_token(config)), listeners)
        finally:
            daemon.stop()
    return 0


def erase(config: Config, host: Host, *, discard_everything: bool = False) -> None:
    """All that a daemon of this configuration has on the machine, for those who uninstall. Packages and the
    configuration stay. Raises Conflict if it runs, Denied while there are environments."""
    if config.database.exists():
        host.make_directory("daemon:directories", config.run, mode=0o711)
        with host.lock("daemon:lock", config.run / "daemon.lock", wait=False) as alone:
            if not alone:
                raise Conflict(f"a daemon runs in {config.run}", hint="stop it first, or use 'wye daemon uninstall'")
            daemon = build(config, host)
            try:
                uninstall(daemon.engine, discard_everything=discard_everything, actor="uninstall", report=silent)
                daemon.network.erase()
                daemon.runtime.erase()
            finally:
                daemon.stop()
            daemon.pool.erase()
    elif config.pool is None and config.root.is_dir():
        _pool(config, host).erase()  # a first start was cut short
    for directory, names in ((config.run, RUN_HOLDS), (config.log, LOG_HOLDS), (config.root, ROOT_HOLDS)):
        for name in names:
            host.remove_tree("daemon:erase", directory / name)
        with contextlib.suppress(OSError):  # somebody else keeps something there
            directory.rmdir()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wyed", description="The daemon of wye. Its options: docs/configuration.md.")
    parser.add_argument("--erase", action="store_true", help="remove all that it has on this machine, and end")
    parser.add_argument(
        "--discard-everything", action="store_true", help="with --erase: environments and all their data, too"
    )
    return parser.parse_args()


def main() -> None:
    os.umask(0o022)
    options = _options()
    try:
        config = configuration.from_process()
        logging.basicConfig(
            level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        logging.Formatter.converter = time.gmtime
        logging.getLogger("uvicorn").setLevel("WARNING")
        diagnosis.raise_open_files()
        if options.erase:
            erase(config, Host(), discard_everything=options.discard_everything)
            return
        sys.exit(run(config, Host()))
    except WyeError as error:
        print(f"wyed: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
