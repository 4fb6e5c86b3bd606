"""up: an environment as its compose file wants it. The first time it is made; later only what changed changes.

Images are made before anything is locked or touched, so that people can fork and look while a build runs.
A changed environment's bytes are kept as a revision first: whatever `up` replaces can be restored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from wye.compose.findings import Notice
from wye.compose.load import Loaded, Source, load
from wye.engine import apply, inspect, plan, records, seed
from wye.engine.context import Engine, environment_name, new_environment_id
from wye.engine.owning import own
from wye.engine.timing import Steps
from wye.engine.views import UpResult
from wye.errors import BadRequest, NotFound, WyeError
from wye.interfaces import Progress, Report
from wye.model import (
    Environment,
    EnvironmentId,
    EnvironmentName,
    Image,
    RevisionId,
    Service,
    Spec,
    Verb,
    replica_names,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `wye up` was asked. Paths are the daemon's; `environment` is the caller's."""

    name: str = "production"
    directory: str
    files: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    env_file: str | None = None
    profiles: tuple[str, ...] = ()
    project: str | None = None
    lenient: bool = False
    pull: bool = False
    wait: bool = True
    wait_timeout_s: float = apply.START_TIMEOUT_S


def config(request: Request) -> Loaded:
    """The compose file, normalised. Changes nothing."""
    directory = Path(request.directory)
    if not directory.is_absolute() or not directory.is_dir():
        raise BadRequest(f"{request.directory!r} is not a directory", hint="give the directory of a compose file")
    source = Source(
        directory=directory,
        files=tuple(directory / name for name in request.files),
        environment=request.environment,
        env_file=None if request.env_file is None else directory / request.env_file,
        profiles=frozenset(request.profiles),
        project=request.project,
    )
    return load(source, lenient=request.lenient)


def up(engine: Engine, request: Request, *, actor: str, report: Report) -> UpResult:
    """Makes or changes environment `request.name`. Raises WyeError; what was there before then still is."""
    name = environment_name(request.name)
    steps = Steps(engine.host)
    with steps("read the compose file"):
        loaded = config(request)
        spec = replace(loaded.spec, volumes=seed.with_digests(loaded.spec.volumes))
    with steps("get images"):
        images = _images(engine, spec, pull=request.pull, report=report)
        engine.images.resolve(engine.settings.shell_image, pull=False, report=report)
    with engine.changing(name):
        head = records.find(engine, name)
        notices: tuple[str, ...] = ()
        with records.change(
            engine, Verb.UP, name, actor=actor, previous=head.id if head else None, project=spec.project
        ) as doing:
            if head is None:
                changes = plan.service_changes(None, {}, spec, images)
                environment = _create(engine, doing, name, spec, images, steps, report)
                fresh = True
            else:
                update = _Update(engine, doing, head, spec, images, steps, report)
                environment, changes, notices, fresh = update.run()
            with steps("start services"):
                apply.bring_up(
                    engine, environment, spec, verb="up", fresh=fresh, report=report, timeout_s=request.wait_timeout_s
                )
                _tell_neighbours(engine, environment, spec, changes)
            apply.keep_warm(engine, environment, spec)
            if request.wait:
                with steps("wait until ready"):
                    report(Progress(step="wait", subject="until every service is ready"))
                    running = [key for key in plan.start_order(spec) if key not in environment.stopped]
                    apply.await_ready(engine, environment, spec, running, request.wait_timeout_s)
    return UpResult(
        environment=inspect.describe(engine, name),
        changes=changes,
        notices=(*(_told(notice) for notice in loaded.notices), *notices),
        steps=steps.taken,
    )


def _told(notice: Notice) -> str:
    """What is imported names itself; a warning needs its place."""
    return notice.message if notice.kind == "import" else str(notice)


def _images(engine: Engine, spec: Spec, *, pull: bool, report: Report) -> dict[str, Image]:
    images: dict[str, Image] = {}
    for key in sorted(spec.services):
        service = spec.services[key]
        report(Progress(step="image", subject=service.image or f"{key} (build)"))
        if service.build is not None:
            images[key] = engine.images.build(service.build, report=report)
        elif service.image is None:
            raise BadRequest(f"service {key!r} has neither an image nor a build")
        elif service.pull_policy in ("never", "build"):
            images[key] = _present(engine, service, service.image)
        else:
            always = pull or service.pull_policy == "always"
            images[key] = engine.images.resolve(service.image, pull=always, report=report)
    return images


def _present(engine: Engine, service: Service, reference: str) -> Image:
    """For those who do not want anything fetched or made, whatever `--pull` says."""
    found = engine.images.present(reference)
    if found is None:
        raise NotFound(
            f"the image {reference!r} of service {service.name!r} is not on this machine, and its pull_policy is "
            f"{service.pull_policy}",
            hint="run 'wye up' once with 'pull_policy: missing', or leave the policy out",
        )
    return found


def _create(
    engine: Engine,
    doing: records.Change,
    name: EnvironmentName,
    spec: Spec,
    images: dict[str, Image],
    steps: Steps,
    report: Report,
) -> Environment:
    identity = new_environment_id()
    try:
        with steps("make volumes"):
            engine.host.at("up:create")
            engine.volumes.create(identity)
            seed.make_volumes(engine, identity, spec, images, report=report)
        environment = Environment(
            name=name,
            id=identity,
            project=spec.project,
            spec=engine.ledger.put_spec(spec),
            images=images,
            revision=RevisionId(""),
            addresses=plan.assign_addresses(spec, {}, engine.settings.subnet),
            created_at=engine.host.now(),
        )
        snapshot = records.take_snapshot(engine, environment, verb=Verb.UP)
        revision = records.new_revision(engine, environment, snapshot, parents=())
        ports = engine.doors.hold(name, plan.wanted_doors(spec, held={}, fork=False))
        environment = replace(environment, revision=revision, ports=ports)
        return doing.commit(environment).environment
    except WyeError:
        engine.doors.release(name)
        engine.volumes.delete_environment(identity)
        raise


class _Update:
    """Changes an environment that is there. `run` goes top to bottom; the fields spare long argument lists."""

    def __init__(
        self,
        engine: Engine,
        doing: records.Change,
        head: records.Head,
        spec: Spec,
        images: dict[str, Image],
        steps: Steps,
        report: Report,
    ) -> None:
        self.engine, self.doing, self.head = engine, doing, head
        self.spec, self.images, self.steps, self.report = spec, images, steps, report
        self.before = records.spec_of(engine, head.environment)
        self.environment = head.environment

    def run(self) -> tuple[Environment, dict[str, str], tuple[str, ...], bool]:
        """The environment as it then is, changes by service, notices, and whether it was asleep."""
        own(self.engine, self.environment)
        changes = plan.service_changes(self.before, self.environment.images, self.spec, self.images)
        reimport = self._stale_imports()
        for name in self._users(reimport):
            if changes.get(name) == "unchanged":
                changes[name] = "changed"
        asleep = not self.environment.awake
        if self.spec == self.before and self.images == self.environment.images:
            if asleep or self.environment.stopped:
                self._commit(self.environment.revision)
            return self.environment, changes, (), asleep
        notices = tuple(
            f"{name}: its image changed, so what it had written over the old one is left behind in the revision before"
            for name in self._reset_layers(changes)
        )
        if not asleep:
            with self.steps("stop what changed"):
                affected = [name for name, what in changes.items() if what in ("changed", "removed")]
                self._stop(affected)
        kept = records.keep_as_revision(self.engine, self.doing, self.head, message="before up")
        self.head, self.environment = kept, kept.environment
        self._change_bytes(changes, reimport)
        snapshot = records.take_snapshot(self.engine, self.environment, verb=Verb.UP)
        revision = records.new_revision(
            self.engine,
            self.environment,
            snapshot,
            spec=self.engine.ledger.put_spec(self.spec),
            images=self.images,
        )
        self._commit(revision)
        return self.environment, changes, notices, asleep

    def _stale_imports(self) -> list[str]:
        """Imported volumes whose source holds something else now than when it was taken in."""
        return [
            name
            for name, volume in self.spec.volumes.items()
            if name in self.before.volumes and volume.imported_digest != self.before.volumes[name].imported_digest
        ]

    def _users(self, volumes: Iterable[str]) -> list[str]:
        wanted = set(volumes)
        return [
            name
            for name, service in self.spec.services.items()
            if any(mount.source in wanted for mount in service.mounts)
        ]

    def _reset_layers(self, changes: dict[str, str]) -> list[str]:
        old, new = self.environment.images, self.images
        return [name for name, what in changes.items() if what == "changed" and old[name].digest != new[name].digest]

    def _stop(self, names: list[str]) -> None:
        apply.bring_down(self.engine, self.environment, self.before, verb="up", services=names, report=self.report)
        for name in names:  # fewer replicas than before: the rest must go too
            for replica in _surplus(self.before.services.get(name), self.spec.services.get(name)):
                apply.stop_replica(self.engine, self.environment, None, replica, verb="up")

    def _change_bytes(self, changes: dict[str, str], reimport: list[str]) -> None:
        identity = self.environment.id
        for name in self._reset_layers(changes):
            for replica in replica_names(self.before.services[name]):
                self._remove_layer(identity, replica)
        for name in reimport:
            self.report(Progress(step="import", subject=self.spec.volumes[name].imported_from or name))
            seed.replace_import(self.engine, identity, self.spec.volumes[name], name)
        seed.make_volumes(self.engine, identity, self.spec, self.images, report=self.report)

    def _remove_layer(self, identity: EnvironmentId, replica: str) -> None:
        layer = self.engine.volumes.environment_path(identity) / "layers" / replica
        self.engine.host.remove_tree("up:reset-layer", layer)

    def _commit(self, revision: RevisionId) -> None:
        environment = self.environment
        addresses = plan.assign_addresses(self.spec, environment.addresses, self.engine.settings.subnet)
        doors = plan.wanted_doors(self.spec, held=environment.ports, fork=environment.is_fork)
        changed = replace(
            environment,
            spec=self.engine.ledger.put_spec(self.spec),
            images=self.images,
            revision=revision,
            addresses=addresses,
            ports=self.engine.doors.hold(environment.name, doors),
            awake=True,
            down=False,
            stopped=(),
            completed=(),
        )
        self.environment = self.doing.commit(changed, previous=self.head.id).environment


def _surplus(before: Service | None, after: Service | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    return tuple(name for name in replica_names(before) if name not in replica_names(after))


def _tell_neighbours(engine: Engine, environment: Environment, spec: Spec, changes: dict[str, str]) -> None:
    """Services that went on running learn the names of new ones: their hosts file is rewritten in place."""
    if not {"created", "removed"} & set(changes.values()):
        return
    for name, what in changes.items():
        if what != "unchanged":
            continue
        for replica in replica_names(spec.services[name]):
            text = plan.hosts_text(environment, spec, replica)
            engine.runtime.replace_file(apply.container_id(environment, replica), "/etc/hosts", text.encode())
