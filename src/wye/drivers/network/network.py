"""The driver: which environment has which slot, and what the host lets through.

Guarantees: nothing reaches an environment, or leaves it, that its record does not say; the record is written after
the kernel was changed and is what the next start goes by, so at every instant a kill leaves either the state before
or the state after, and at worst strays that nothing can reach. Networks and their connections outlive this process.
While it runs, a host's table that somebody else removes is back at once.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from wye.drivers.network import diagnosis, namespaces, netlink
from wye.drivers.network.chores import Chores
from wye.drivers.network.forwarding import Forwarding
from wye.drivers.network.netlink import Flow, Netlink, Request
from wye.drivers.network.record import Record, fresh
from wye.drivers.network.register import Register
from wye.drivers.network.request import check_publications, check_shape
from wye.drivers.network.rules import HostRules
from wye.drivers.network.slots import Slot, Slots
from wye.drivers.network.warm import Warm
from wye.drivers.network.watch import Watch
from wye.drivers.network.wiring import Wiring
from wye.errors import BadRequest, Conflict, NotFound, Unavailable, WyeError
from wye.host import Host
from wye.interfaces import Attachment, Finding, NetworkShape, Publication
from wye.model import EnvironmentId

_NOBODY = EnvironmentId("")
_LONGEST_LINK_NAME = 15
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""Of tables, and of what links' names begin with. No hyphen: one ends the beginning, so that no daemon's is part of
another's."""
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


class LinuxNetwork:
    """Keeps `wye.interfaces.Network`, in the network namespace of the thread that calls `open`; every caller must be
    in that one.

    `directory` holds the namespaces by name: a place below /run. `uplinks` is a range of addresses that nothing else
    here uses, two for each environment. Daemons that share a machine differ in `directory`, `uplinks`, `table` and
    `prefix` (how their links' names begin).
    """

    def __init__(
        self, host: Host, *, directory: Path, uplinks: str = "100.80.0.0/12", table: str = "wye", prefix: str = "wye"
    ) -> None:
        try:
            self._uplinks = ipaddress.IPv4Network(uplinks)
        except ValueError as error:
            raise BadRequest(f"not a range of uplink addresses: {error}", hint="for example 100.80.0.0/12") from error
        for name in (table, prefix):
            if _NAME.fullmatch(name) is None:
                raise BadRequest(f"{name!r} cannot name a table or links", hint="use letters and digits")
        self._host = host
        self._directory = directory
        self._table = table
        self._prefix = f"{prefix}-"
        if len(f"{self._prefix}{self._uplinks.num_addresses // 2}") > _LONGEST_LINK_NAME:
            raise BadRequest(f"{prefix!r} is too long to begin the names of links")
        self._slots = Slots(host, directory / "slots", self._uplinks, self._prefix)
        self._wiring = Wiring(host)
        self._forwarding = Forwarding(host, directory / "forwarding.json")
        self._chores = Chores("wye-network-chores")
        self._warm = Warm(lambda shape: self._build(shape).number, self._demolish)
        self._turns = threading.Condition()
        self._doomed: SimpleQueue[Slot] = SimpleQueue()
        self._busy: set[EnvironmentId] = set()
        self._open: Register | None = None
        self._watch: Watch | None = None

    # ------------------------------------------------------------ open, close

    def open(self) -> None:
        """Also right as the first thing after a kill, a restart of the machine, or a change of version."""
        if self._open is not None:
            return
        self._host.make_directory("network:directory", self._directory / "slots", mode=0o700)
        records = self._adopt()
        rules = self._rules(self._forwarding.guarded(self._foreign_links))
        with ExitStack() as undo:
            register = Register(self._host, self._slots, rules, records)
            undo.callback(register.close)
            self._refuse_range(present=True)
            self._forwarding.enable()
            self._sweep(records)
            self._watch = Watch(self._table, register.restore)
            undo.pop_all()
        self._open = register

    def close(self) -> None:
        self._warm.close()
        self._chores.close()
        self._unwatch()
        if self._open is not None:
            self._open.close()
            self._open = None

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def erase(self) -> None:
        """Takes away everything, environments' networks included, for those who uninstall. Implies close."""
        for environment in self._register().environments():
            self.detach(environment)
        self._unwatch()
        self._register().remove_table()
        self.close()
        self._slots.demolish(*map(self._slots.slot, self._slots.recall()))
        self._refuse_range(present=False)
        self._forwarding.restore(self._foreign_links())
        self._host.remove_tree("network:remove-directory", self._directory)

    # ------------------------------------------------------------ the protocol

    def warm(self, shape: NetworkShape, count: int) -> None:
        self._register()
        check_shape(shape)
        self._warm.want(shape, count)

    def attach(self, environment: EnvironmentId, shape: NetworkShape, *, egress: Mapping[str, bool]) -> Attachment:
        check_shape(shape)
        allowed = tuple(replica for replica, _ in shape.endpoints if egress.get(replica, False))
        with self._turn(environment):
            found = self._register().find(environment)
            if found is not None and _subnet(found[1].shape) != _subnet(shape):
                self._detach(found[0])
                found = None
            slot = self._take(environment, shape, allowed) if found is None else self._change(*found, shape, allowed)
        return Attachment(
            environment=environment,
            namespaces={replica: str(slot.service(replica)) for replica, _ in shape.endpoints},
        )

    def publish(self, environment: EnvironmentId, publications: Sequence[Publication], *, cut: bool = True) -> None:
        with self._turn(environment):
            number, record = self._register().get(environment)
            check_publications(publications, record.shape)
            self._register().publish(number, publications)
            self._forget_connections(record, publications, cut=cut)

    def detach(self, environment: EnvironmentId) -> None:
        with self._turn(environment):
            found = self._register().find(environment)
            if found is not None:
                self._detach(found[0])

    def environments(self) -> frozenset[EnvironmentId]:
        """Waits until what was detached is gone: who asks wants to know what is left."""
        self._chores.wait()
        return self._register().environments()

    def dial(self, environment: EnvironmentId, key: str) -> tuple[str, int]:
        _, record = self._register().get(environment)
        if key not in record.ports:
            raise NotFound(f"{environment} has no port {key}")
        return record.uplink, record.ports[key]

    def diagnose(self) -> list[Finding]:
        """For `wye doctor`: what stands in the way on this machine, and the fix. Changes nothing."""
        return diagnosis.findings(
            self._host,
            self._rules(frozenset()),
            forwards=self._forwarding.is_on(),
            uplinks=self._uplinks,
            taken=len(self._register().environments()),
            routes=Path("/proc/thread-self/net/route").read_text(),
        )

    # ------------------------------------------------------------ one environment

    def _take(self, environment: EnvironmentId, shape: NetworkShape, egress: tuple[str, ...]) -> Slot:
        """A slot of that shape becomes the environment's: by its record, which is written last."""
        number = self._warm.take(shape)
        slot = self._build(shape) if number is None else self._slots.slot(number)
        record = replace(fresh(environment, slot.address, shape), egress=egress)
        try:
            if egress:
                self._wiring.set_router(slot, replace(record, egress=()), record)
            self._register().commit(slot.number, record)
        except WyeError:
            self._slots.demolish(slot)
            raise
        return slot

    def _change(self, number: int, old: Record, shape: NetworkShape, egress: tuple[str, ...]) -> Slot:
        """In place. The record says meanwhile what is there before and after."""
        slot = self._slots.slot(number)
        if old.settled and old.shape == shape and old.egress == egress:
            return slot
        between = old.between(shape, egress)
        after = between.after(shape, egress)
        self._register().commit(number, between)
        self._forget_connections(old, between.publications)
        if old.egress and not after.egress:
            self._chores.put(lambda: self._slots.forget_connections(slot, received=False))
        self._slots.forget_services(slot, keep=between.links)
        self._wiring.change(slot, old, between, after)
        self._register().commit(number, after)
        return slot

    def _detach(self, number: int) -> None:
        """When this returns nothing new can reach it; the kernel takes 10 to 30 ms more to take it apart."""
        self._register().drop(number)
        self._doomed.put(self._slots.slot(number))
        self._chores.put(self._demolish_doomed)

    def _build(self, shape: NetworkShape) -> Slot:
        self._forwarding.enable()
        slot = self._slots.claim()
        try:
            self._wiring.build(slot, fresh(_NOBODY, slot.address, shape))
        except WyeError:
            self._slots.demolish(slot)
            raise
        return slot

    def _demolish(self, number: int) -> None:
        self._slots.demolish(self._slots.slot(number))

    def _demolish_doomed(self) -> None:
        """All that wait at once: the kernel then takes them apart at once."""
        slots = []
        with suppress(Empty):
            while True:
                slots.append(self._doomed.get_nowait())
        if slots:
            self._slots.demolish(*slots)

    @contextmanager
    def _turn(self, environment: EnvironmentId) -> Iterator[None]:
        """One caller at a time for each environment; different ones do not wait for each other."""
        with self._turns:
            self._turns.wait_for(lambda: environment not in self._busy)
            self._busy.add(environment)
        try:
            yield
        finally:
            with self._turns:
                self._busy.discard(environment)
                self._turns.notify_all()

    def _register(self) -> Register:
        if self._open is None:
            raise Unavailable("the network has not been opened")
        return self._open

    # ------------------------------------------------------------ the host

    def _rules(self, guarded: frozenset[str]) -> HostRules:
        return HostRules(table=self._table, prefix=self._prefix, uplinks=str(self._uplinks), guarded=guarded)

    def _adopt(self) -> dict[int, Record]:
        """The records of slots that are all there. Without its namespaces a record means nothing: the machine was
        restarted."""
        records = {}
        for number in self._slots.recall():
            slot = self._slots.slot(number)
            try:
                record = Record.decode(slot.record.read_bytes())
            except FileNotFoundError:
                continue
            except ValueError as error:
                if not namespaces.is_named(slot.router):
                    continue
                raise Unavailable(
                    f"{slot.record} cannot be read: {error}",
                    hint="another version of wye may have written it; without the file its network is removed",
                ) from error
            if not self._slots.is_whole(slot, record):
                continue
            if record.uplink != slot.address:
                raise Conflict(
                    f"the network of {record.environment} was made with other uplinks than {self._uplinks}",
                    hint="start the daemon with the range it had, or take the environments down first",
                )
            records[number] = record
        return records

    def _sweep(self, records: Mapping[int, Record]) -> None:
        """Removes what no record names."""
        for number, record in records.items():
            if not record.settled:
                self._slots.forget_services(self._slots.slot(number), keep=record.links)
        self._slots.demolish(*(self._slots.slot(number) for number in self._slots.recall() if number not in records))
        kept = {self._slots.slot(number).link for number in records}
        self._slots.remove_links(sorted(self._links(ours=True) - kept))

    def _forget_connections(self, old: Record, publications: Sequence[Publication], *, cut: bool = True) -> None:
        """Cuts connections through ports that are published no longer, and UDP conversations that began before their
        port was published: both would otherwise go on to where they went."""
        requests = []
        for gone in set(old.publications) - set(publications) if cut else ():
            protocol = _PROTOCOLS[gone.protocol]
            requests.append(
                netlink.forget_connections(
                    asked=Flow(protocol=protocol, destination_port=gone.host_port),
                    answered=Flow(source=old.uplink, protocol=protocol, source_port=old.ports[gone.key]),
                )
            )
        for new in set(publications) - set(old.publications):
            if new.protocol == "udp":
                flow = Flow(protocol=_PROTOCOLS["udp"], destination_port=new.host_port)
                requests.append(netlink.forget_connections(asked=flow))
        if requests:
            self._chores.put(lambda: self._ask("network:forget-connections", *requests, protocol=netlink.NETFILTER))

    def _refuse_range(self, *, present: bool) -> None:
        """What is sent to an environment that is gone is refused here and does not leave by the default route."""
        network, length = str(self._uplinks.network_address), self._uplinks.prefixlen
        self._ask("network:refuse-range", netlink.unreachable(network, length, present=present))

    def _ask(self, label: str, *requests: Request, protocol: int = netlink.ROUTE) -> None:
        self._host.at(label)
        try:
            with closing(Netlink(protocol)) as outside:
                outside.send(*requests)
        except OSError as error:
            raise self._host.failure(label, str(error.filename), error) from error

    def _links(self, *, ours: bool) -> frozenset[str]:
        with closing(Netlink()) as outside:
            return frozenset(name for name in outside.links() if name.startswith(self._prefix) == ours)

    def _foreign_links(self) -> frozenset[str]:
        return self._links(ours=False)


def _subnet(shape: NetworkShape) -> tuple[str, str]:
    return shape.subnet, shape.gateway
