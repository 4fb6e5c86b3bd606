"""A merge carried out in an environment that nobody uses: a copy to run checks on, or a fork brought up to date.

Its database servers are started alone, take their changes, and go on; files are swapped while nothing else runs. What
comes out has the merged spec and waits for its services to be started.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wye.engine import apply, comparing, plan, preparing, seed, servers
from wye.engine.context import Engine
from wye.engine.proposing import Proposal
from wye.interfaces import Bytes, silent
from wye.model import Environment


def materialise(
    engine: Engine,
    copy: Environment,
    proposal: Proposal,
    resolutions: dict[str, Any],
    *,
    verb: str,
    prepare: bool = False,
) -> Environment:
    """`copy` holds ours's bytes and does not run. `prepare`: it is going to be a fork of its own, so its databases are
    made ready and its base is kept before anything is merged into it. Raises Refused."""
    ours = proposal.ours
    stores = comparing.stores_of(engine, ours)
    names = {str(store.service.name) for store in stores}
    if names:
        apply.bring_up(engine, copy, ours.spec, verb=verb, services=names, fresh=True)
    if prepare:
        for store in stores:
            server = servers.live(engine, copy, store)
            store.kind.prepare_fork(server)
            servers.keep_told(engine, copy, store, store.kind.tell(server))
        copy = replace(copy, base=preparing.keep_base(engine, copy, verb=verb))
    for each in proposal.stores:
        if each.changes:
            engine.host.at(f"{verb}:apply-store")
            each.store.kind.apply(
                servers.live(engine, copy, each.store), each.changes, comparing.terms(ours.spec, resolutions)
            )
    if proposal.files.places():
        live = Bytes(
            root=engine.volumes.environment_path(copy.id),
            images=comparing.image_paths(engine, ours.spec, ours.images),
        )
        engine.host.at(f"{verb}:apply-files")
        engine.files.apply(proposal.files, comparing.bytes_of(engine, proposal.theirs), live).commit()
    seed.make_volumes(engine, copy.id, proposal.spec, proposal.images, report=silent)
    return replace(
        copy,
        spec=engine.ledger.put_spec(proposal.spec),
        images=proposal.images,
        addresses=plan.assign_addresses(proposal.spec, copy.addresses, engine.settings.subnet),
    )
