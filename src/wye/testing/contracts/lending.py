"""What every `Volumes` must do with bytes that it lends. Subclass `LendingContract` beside `VolumesContract`."""

from __future__ import annotations

from pathlib import Path

import pytest

from wye.errors import Conflict, NotFound, Unavailable
from wye.interfaces import Volumes
from wye.testing.contracts.volumes import created, environment_id, kept, snapshot_id

_MIB = 1 << 20


class LendingContract:
    def test_what_was_lent_is_read_like_a_fork(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"then")
        snapshot, fork, kept_fork = kept(volumes, environment), environment_id(), snapshot_id()
        volumes.lend(snapshot, fork)
        (volume / "file").write_bytes(b"now")
        assert fork in volumes.environments()
        assert volumes.lent() == {fork}
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"then"
        assert volumes.usage(fork).exclusive_bytes == 0
        volumes.snapshot(fork, kept_fork)
        assert volumes.changes(snapshot, kept_fork) == []
        with pytest.raises(Conflict):
            volumes.lend(snapshot, fork)
        with pytest.raises(Conflict):
            volumes.limit(fork, _MIB)

    def test_its_bytes_are_its_own_once_it_owns_them(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"then")
        snapshot, fork = kept(volumes, environment), environment_id()
        volumes.lend(snapshot, fork)
        settled: list[bytes] = []

        def settle(root: Path) -> None:
            settled.append((root / "volumes" / "data" / "file").read_bytes())
            (root / "volumes" / "data" / "file").write_bytes(b"settled")

        volumes.own(fork, limit_bytes=64 * _MIB, settle=settle)
        volumes.own(fork, limit_bytes=64 * _MIB, settle=settle)
        assert settled == [b"then"]
        assert volumes.lent() == frozenset()
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"settled"
        assert (volumes.snapshot_path(snapshot) / "volumes" / "data" / "file").read_bytes() == b"then"
        assert volumes.usage(fork).limit_bytes == 64 * _MIB
        volumes.delete_environment(environment)
        volumes.delete_snapshot(snapshot)
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"settled"

    def test_owning_that_was_cut_short_is_done_again(self, volumes: Volumes) -> None:
        environment, _ = created(volumes)
        snapshot, fork = kept(volumes, environment), environment_id()
        volumes.lend(snapshot, fork)

        def fail(_root: Path) -> None:
            raise Unavailable("cut short")

        with pytest.raises(Unavailable, match="cut short"):
            volumes.own(fork, settle=fail)
        volumes.open()
        settled: list[Path] = []
        volumes.own(fork, settle=settled.append)
        assert settled == [volumes.environment_path(fork)]

    def test_who_has_bytes_of_its_own_owns_them(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"mine")
        volumes.own(environment, settle=lambda root: pytest.fail(f"settled {root}"))
        assert (volume / "file").read_bytes() == b"mine"

    def test_a_snapshot_that_is_lent_stays(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"kept")
        snapshot, fork = kept(volumes, environment), environment_id()
        volumes.lend(snapshot, fork)
        volumes.delete_environment(environment)
        with pytest.raises(Conflict, match="lent"):
            volumes.delete_snapshot(snapshot)
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"kept"
        volumes.delete_environment(fork)
        assert fork not in volumes.environments()
        volumes.delete_snapshot(snapshot)
        assert snapshot not in volumes.snapshots()

    def test_a_snapshot_is_lent_as_it_is_taken(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"kept")
        snapshot, forks = snapshot_id(), [environment_id(), environment_id()]
        volumes.snapshot(environment, snapshot, lend_to=forks)
        assert volumes.lent() == set(forks)
        for fork in forks:
            assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"kept"
        stranger = environment_id()
        with pytest.raises(Conflict):
            volumes.snapshot(environment, snapshot_id(), lend_to=[stranger, environment])
        with pytest.raises(Conflict):
            volumes.snapshot(environment, snapshot, lend_to=[stranger])
        assert stranger not in volumes.environments(), "what failed leaves nothing"

    def test_a_loan_outlives_the_daemon(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"kept")
        fork = environment_id()
        volumes.lend(kept(volumes, environment), fork)
        volumes.close()
        volumes.open()
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"kept"

    def test_what_is_not_there_cannot_be_lent(self, volumes: Volumes) -> None:
        environment, _ = created(volumes)
        with pytest.raises(NotFound):
            volumes.lend(snapshot_id(), environment_id())
        with pytest.raises(Conflict):
            volumes.lend(kept(volumes, environment), environment)
