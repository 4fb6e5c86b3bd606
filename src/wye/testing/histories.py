"""Small histories for tests: whole entries with a revision, a spec, a snapshot and an image of their own."""

from __future__ import annotations

from typing import Any

from wye.model import (
    Entry,
    EntryId,
    Environment,
    EnvironmentId,
    EnvironmentName,
    Image,
    ImageConfig,
    Revision,
    RevisionId,
    Service,
    ServiceName,
    SnapshotId,
    Spec,
    Verb,
)
from wye.store.ledger import Ledger


class History:
    """Entry n (of this History) has snapshot "snapshot-n", image "sha256:n" and the time n, unless told otherwise."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.step = 0

    def entry(
        self,
        name: str,
        previous: EntryId | None,
        *,
        verb: Verb = Verb.SNAPSHOT,
        at: float | None = None,
        parents: tuple[RevisionId, ...] = (),
        origin: RevisionId | None = None,
        arguments: dict[str, str] | None = None,
        **environment: Any,
    ) -> Entry:
        self.step += 1
        n = self.step
        named = EnvironmentName(name)
        spec = self.ledger.put_spec(
            Spec(project="shop", services={"web": Service(name=ServiceName("web"), image=f"web:{n}")})
        )
        images = {"web": Image(reference=f"web:{n}", digest=f"sha256:{n}", config=ImageConfig())}
        revision = self.ledger.put_revision(
            Revision(environment=named, spec=spec, images=images, snapshot=SnapshotId(f"snapshot-{n}"), parents=parents)
        )
        state: dict[str, Any] = {
            "name": named,
            "id": EnvironmentId("abcdefghijkl"),
            "project": "shop",
            "spec": spec,
            "images": images,
            "revision": revision,
            "origin": origin,
        }
        return Entry(
            previous=previous,
            verb=verb,
            actor="ada",
            at=float(n) if at is None else at,
            environment=Environment(**(state | environment)),
            arguments=arguments or {},
        )

    def chain(self, name: str, length: int, *, origin: RevisionId | None = None) -> list[EntryId]:
        """`length` entries of a new environment, oldest first, each revision the child of the one before."""
        ids: list[EntryId] = []
        parents: tuple[RevisionId, ...] = () if origin is None else (origin,)
        for _ in range(length):
            previous = ids[-1] if ids else None
            entry = self.entry(name, previous, parents=parents, origin=origin)
            ids.append(self.ledger.append(EnvironmentName(name), previous, entry))
            parents = (entry.environment.revision,)
        return ids

    def revision(self, entry_id: EntryId) -> RevisionId:
        return self.ledger.get_entry(entry_id).environment.revision
