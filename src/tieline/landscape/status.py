"""How a landscape stands, read from its declaration and its ledger; nothing is run and nothing changed.

Plain functions over the stores, for use inside one `Ledger.transact`: so what they give is of one
moment. The command line and a console show the same values.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from tieline.connector import LegState
from tieline.flow import leg_name
from tieline.ledger import Kept, LegRow, SourceState, Stores, Way
from tieline.message import Message, Outcome, Reason, partition_of, unpack
from tieline.system import Landscape

MOST_PARKED: Final = 100_000
_MOST_LOOKED_THROUGH: Final = 200_000
_AT_ONCE: Final = 20_000


class LegStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One leg. Times are seconds since 1970; `lag` is the age in seconds of the oldest message under way.

    `way` is how messages travel now; `leaving` names an earlier way that is not empty yet. `counted` says
    that `in_flight` was counted in the ledger's store; else the engine keeps it, and it is what is missing.
    `for_a_person` are parked messages about which only a person can decide, and has not yet. What a process
    makes (`from_process`) arrives and is not read: its `last_read` is 0.
    `workers` are those that run it now, each with the partitions it holds; `unattended` says that there are
    none, while others run.
    """

    leg: str
    flow: str
    source: str
    target: str
    entity: str
    way: str
    leaving: str = ""
    owner: str = ""
    claimed: bool = True
    started: bool = True
    entered: int = 0
    outcomes: dict[Outcome, int] = {}
    parked: dict[Reason, int] = {}
    for_a_person: int = 0
    in_flight: int = 0
    counted: bool = True
    lag: float = 0.0
    last_read: float = 0.0
    from_process: bool = False
    paused: str = ""
    failure: str = ""
    labels: tuple[str, ...] = ()
    workers: dict[str, list[int]] = {}
    unattended: bool = False

    @property
    def off_by(self) -> int:
        """What came in, less everything it became: 0, or a message has vanished."""
        return self.entered - sum(self.outcomes.values()) - sum(self.parked.values()) - self.in_flight

    @property
    def balance(self) -> str:
        """The promise as a line: in = done + … + parked + in flight."""
        parts = {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome}
        parts["parked"] = sum(self.parked.values())
        parts["in flight"] = self.in_flight
        shown = " + ".join(f"{count:,} {name}" for name, count in parts.items() if count) or "0"
        sign = "=" if not self.off_by else "≠"
        return f"in {self.entered:,} {sign} {shown}"


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One source. `parked` are records that could not be read, or deletes that wait for a yes.

    `for_a_person` are those about which nobody has decided yet.
    """

    source: str
    inbox: int = 0
    parked: int = 0
    for_a_person: int = 0
    last_read: float = 0.0
    last_sweep: float = 0.0
    failure: str = ""
    reader: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A landscape at one moment, by the ledger's clock."""

    name: str
    at: float
    legs: list[LegStatus]
    sources: list[SourceStatus]
    workers: list[str]

    @property
    def for_a_person(self) -> int:
        """Parked messages and records about which only a person can decide, and has not yet."""
        return sum(leg.for_a_person for leg in self.legs) + sum(source.for_a_person for source in self.sources)


def status(landscape: Landscape, stores: Stores) -> Status:
    """Every leg and source that is declared or known to the ledger."""
    rows = {row.leg: row for row in stores.legs.all()}
    declared = declared_legs(landscape)
    states = stores.sources.all()
    legs = [_leg(landscape, stores, row, states, row.leg in declared) for row in rows.values()]
    legs += [leg for name, leg in declared.items() if name not in rows]
    holders = stores.leases.holders()
    legs = [_attended(leg, holders) for leg in legs]
    names = sorted({*states, *(leg.source for leg in legs)})
    return Status(
        name=landscape.name,
        at=stores.now(),
        legs=sorted(legs, key=lambda leg: (not leg.claimed, leg.leg)),
        sources=[_source(stores, name, states.get(name, SourceState()), holders) for name in names],
        workers=sorted({owner for name, owner in holders.items() if name.startswith("worker:")}),
    )


def declared_legs(landscape: Landscape) -> dict[str, LegStatus]:
    """The legs that the flows declare, as if they had never run."""
    found = {}
    for flow in landscape.flows.values():
        given = flow.source_name or flow.entity
        for target in flow.targets:
            name = leg_name(flow.name, target.system)
            found[name] = LegStatus(
                leg=name,
                flow=flow.name,
                source=f"{flow.source}.{given}",
                target=target.system,
                entity=flow.entity,
                way="main" if flow.via == "bus" else flow.via,
                owner=flow.owner,
                started=False,
                from_process=flow.source in landscape.processes,
                labels=flow.labels,
            )
    return found


def _attended(leg: LegStatus, holders: Mapping[str, str]) -> LegStatus:
    """The leg with the workers that run it."""
    workers: dict[str, list[int]] = {}
    for name, owner in holders.items():
        if name.startswith(f"seat:leg:{leg.leg}|"):
            workers.setdefault(owner, [])
        elif name.startswith(f"leg:{leg.leg}|"):
            workers.setdefault(owner, []).append(int(name.rpartition("/")[2]))
    shared = {worker: sorted(workers[worker]) for worker in sorted(workers)}
    others = any(name.startswith("worker:") for name in holders)
    return msgspec.structs.replace(leg, workers=shared, unattended=leg.claimed and others and not shared)


def unattended(landscape: Landscape, stores: Stores) -> list[LegStatus]:
    """Legs that no living worker runs, while there are workers."""
    return [leg for leg in status(landscape, stores).legs if leg.unattended]


def unclaimed(landscape: Landscape, stores: Stores) -> list[LegStatus]:
    """Legs that the ledger knows and no flow claims any more, with what still waits in them."""
    return [leg for leg in status(landscape, stores).legs if not leg.claimed]


def _leg(
    landscape: Landscape, stores: Stores, row: LegRow, sources: Mapping[str, SourceState], claimed: bool
) -> LegStatus:
    flow = landscape.flows.get(row.flow)
    source = sources.get(row.source, SourceState())
    outcomes = _outcomes(stores.legs.totals(row.leg))
    parked = stores.parked.counts(row.leg)
    settled = sum(outcomes.values()) + sum(parked.values())
    flight = Flight(stores, row)
    in_flight = flight.count(row.entered - settled)
    if flight.counted and in_flight != row.entered - settled:
        # Messages on their way may be parked a moment before their leg moves past them: count those once.
        ahead = flight.parked_ahead()
        for reason in ahead:
            parked[reason] -= 1
    return LegStatus(
        leg=row.leg,
        flow=row.flow,
        source=row.source,
        target=row.target,
        entity=row.entity,
        way=row.ways[-1].bus,
        leaving=row.ways[0].bus if len(row.ways) > 1 else "",
        owner="" if flow is None else flow.owner,
        claimed=claimed,
        entered=row.entered,
        outcomes=outcomes,
        parked={reason: count for reason, count in parked.items() if count},
        for_a_person=stores.parked.for_a_person(row.leg),
        in_flight=in_flight,
        counted=flight.counted,
        lag=max(0.0, stores.now() - flight.oldest()) if in_flight else 0.0,
        last_read=source.read_at,
        from_process=row.source.partition(".")[0] in landscape.processes,
        paused=row.paused,
        failure=source.failure,
        labels=() if flow is None else flow.labels,
    )


def _outcomes(totals: Mapping[str, int]) -> dict[Outcome, int]:
    return {Outcome(name): count for name, count in totals.items() if count}


class _Label(msgspec.Struct, frozen=True):
    """What stands on the outside of a packed batch; its messages are not looked at."""

    time: datetime
    to: str = ""


_labels: Final = msgspec.json.Decoder(_Label)


class Flight:
    """What is under way to a leg: after its positions, in the channels of its ways."""

    def __init__(self, stores: Stores, row: LegRow) -> None:
        self._stores = stores
        self._row = row
        self._ways = [(way, self._after(way)) for way in row.ways]
        self.counted = all(stores.channels.ends(way.channel) for way in row.ways)

    def _after(self, way: Way) -> dict[int, LegState]:
        states = self._stores.legs.states(self._row.leg, way.channel)
        return {p: states.get(p, LegState()) for p in range(way.partitions)}

    def count(self, expected: int) -> int:
        """Messages under way; where they are in another engine, what is `expected`."""
        if not self.counted:
            return max(0, expected)
        depth = sum(self._stores.channels.depth(way.channel, _positions(states)) for way, states in self._ways)
        if depth == expected:
            return depth
        # The quick number knows no addressees: a channel may also hold what a backfill sends to another leg.
        return sum(kept.count for kept, _ in self.kept() if self._label(kept).to in {"", self._row.leg})

    def _label(self, kept: Kept) -> "_Label":
        return _labels.decode(kept.data)

    def kept(self) -> Iterable[tuple[Kept, Way]]:
        """The batches under way, in order per partition."""
        for way, states in self._ways:
            after = _positions(states)
            while rows := self._stores.channels.read(way.channel, after, _AT_ONCE):
                for row in rows:
                    after[row.partition] = row.position
                    passed = max(states[row.partition].sequence, way.begins_after)
                    if passed < row.sequence <= (way.until if way.until is not None else row.sequence):
                        yield row, way

    def messages(self, key: str, partition: bool) -> list[Message]:
        """Messages of one key under way, as far as they can be looked through; `partition`: only in the key's."""
        found: list[Message] = []
        looked = 0
        written = msgspec.json.encode(key)
        for kept, way in self.kept():
            if partition and kept.partition != partition_of(key, way.partitions):
                continue
            if written in kept.data and self._label(kept).to in {"", self._row.leg}:
                found += [message for message in unpack(kept.data).messages if message.key == key]
            looked += kept.count
            if looked > _MOST_LOOKED_THROUGH:
                break
        return found

    def oldest(self) -> float:
        """When the oldest batch under way was made; now, where that cannot be seen."""
        times = [self._stores.now()]
        for way, states in self._ways:
            for partition, state in states.items():
                first = self._stores.channels.read(way.channel, {partition: state.position}, 1)
                times += [self._label(kept).time.timestamp() for kept in first]
        return min(times)

    def parked_ahead(self) -> list[Reason]:
        """Why messages are parked that the leg has not moved past yet."""
        way, states = self._ways[0]
        return [
            row.reason
            for row in self._stores.parked.list(self._row.leg, limit=MOST_PARKED)
            if row.position
            > max(states[partition_of(row.subject or row.key, way.partitions)].sequence, way.begins_after)
        ]


def _positions(states: Mapping[int, LegState]) -> dict[int, int]:
    return {partition: state.position for partition, state in states.items()}


def _source(stores: Stores, name: str, state: SourceState, holders: Mapping[str, str]) -> SourceStatus:
    return SourceStatus(
        source=name,
        inbox=stores.inbox.depth(name),
        parked=sum(stores.parked.counts(name).values()),
        for_a_person=stores.parked.for_a_person(name),
        last_read=state.read_at,
        last_sweep=state.swept_at,
        failure=state.failure,
        reader=holders.get(f"read:{name}", ""),
    )
