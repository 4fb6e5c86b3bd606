"""Who owns which slot, and the host's rules that follow from it.

Guarantees that rules and records say the same: a change goes to the kernel first, then into the record; if the second
fails the first is taken back, and if this process is killed between them the next start makes the rules from the
records. A change touches only its own elements, so it takes the same time however many environments there are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wye.drivers.network.nftables import Nftables
from wye.drivers.network.record import WILDCARD, Record
from wye.drivers.network.rules import HostRules
from wye.drivers.network.slots import Slots
from wye.errors import Conflict, NotFound, WyeError
from wye.host import Host
from wye.interfaces import Publication
from wye.model import EnvironmentId


class Register:
    """Safe to use from several threads. Makes its rules in the namespace of the thread that constructs it."""

    def __init__(self, host: Host, slots: Slots, rules: HostRules, records: Mapping[int, Record]) -> None:
        self._host = host
        self._slots = slots
        self._rules = rules
        self._lock = threading.Lock()
        self._records = dict(records)
        self._owned = {record.environment: number for number, record in records.items()}
        self._taken: dict[tuple[str, int], dict[str, EnvironmentId]] = {}
        for record in records.values():
            self._note(None, record)
        self._nftables = Nftables()
        self._load()
        self._whole = self._nftables.layout(rules.table)

    def restore(self) -> bool:
        """Makes the host's table again if it is not what was loaded. Whether it was not."""
        with self._lock:
            if self._nftables.layout(self._rules.table) == self._whole:
                return False
            self._load()
            return True

    def _load(self) -> None:
        self._host.at("network:load-rules")
        elements = (element for record in self._records.values() for element in record.elements())
        self._nftables.run(self._rules.load(elements))

    def close(self) -> None:
        self._nftables.close()

    def remove_table(self) -> None:
        self._host.at("network:remove-table")
        self._nftables.run(self._rules.remove())

    def environments(self) -> frozenset[EnvironmentId]:
        with self._lock:
            return frozenset(self._owned)

    def find(self, environment: EnvironmentId) -> tuple[int, Record] | None:
        with self._lock:
            number = self._owned.get(environment)
            return None if number is None else (number, self._records[number])

    def get(self, environment: EnvironmentId) -> tuple[int, Record]:
        """Raises NotFound."""
        found = self.find(environment)
        if found is None:
            raise NotFound(f"{environment} has no network", hint="start the environment")
        return found

    def commit(self, number: int, new: Record) -> None:
        """Makes `new` the slot's record."""
        with self._lock:
            self._commit(number, new)

    def publish(self, number: int, publications: Sequence[Publication]) -> None:
        """Raises Conflict for a host port that another environment has, and then nothing has changed."""
        with self._lock:
            record = self._records[number]
            for publication in publications:
                self._refuse_taken(record.environment, publication)
            self._commit(number, replace(record, publications=tuple(publications)))

    def drop(self, number: int) -> None:
        """The slot is nobody's from now on."""
        with self._lock:
            record = self._records[number]
            self._apply(record, None)
            try:
                self._host.remove_tree("network:disown", self._slots.slot(number).record)
            except WyeError:
                self._apply(None, record)
                raise
            self._note(record, None)
            del self._records[number]
            del self._owned[record.environment]

    def _commit(self, number: int, new: Record) -> None:
        old = self._records.get(number)
        self._apply(old, new)
        try:
            self._host.write_file("network:record", self._slots.slot(number).record, new.encode())
        except WyeError:
            self._apply(new, old)
            raise
        self._note(old, new)
        self._records[number] = new
        self._owned[new.environment] = number

    def _apply(self, old: Record | None, new: Record | None) -> None:
        """Nothing is asked of the kernel where the rules stay as they are."""
        text = self._rules.change(old.elements() if old else frozenset(), new.elements() if new else frozenset())
        if text:
            self._host.at("network:rules")
            self._nftables.run(text)

    def _refuse_taken(self, environment: EnvironmentId, publication: Publication) -> None:
        """As sockets do: 0.0.0.0 takes a port for every address."""
        takers = self._taken.get((publication.protocol, publication.host_port), {})
        for host_ip, taker in takers.items():
            if taker != environment and (publication.host_ip == host_ip or WILDCARD in (publication.host_ip, host_ip)):
                place = f"port {publication.host_port}/{publication.protocol} of {publication.host_ip}"
                raise Conflict(
                    f"{place} is published by environment {taker}",
                    hint="choose another host port",
                )

    def _note(self, old: Record | None, new: Record | None) -> None:
        for publication in old.publications if old else ():
            port = (publication.protocol, publication.host_port)
            self._taken[port].pop(publication.host_ip, None)
            if not self._taken[port]:
                del self._taken[port]
        for publication in new.publications if new else ():
            port = (publication.protocol, publication.host_port)
            self._taken.setdefault(port, {})[publication.host_ip] = new.environment if new else EnvironmentId("")
