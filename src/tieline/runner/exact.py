"""What an `exact` flow asks of the places where its messages are kept, and of its targets."""

from tieline.adapter import Sink
from tieline.bus import BusCapabilities, Guarantee
from tieline.connector import Capabilities
from tieline.errors import Mistake
from tieline.flow import Flow, Robustness
from tieline.ledger import Ledger


def too_weak(flow: Flow, bus: str, facts: BusCapabilities, ledger: Ledger) -> Mistake | None:
    """Why the flow is refused: a place that acknowledges what a power cut would take away again."""
    if flow.robustness is not Robustness.EXACT or (facts.guarantee >= Guarantee.SYNCED and ledger.durable):
        return None
    weak, kind = (f"bus {bus}", "bus") if ledger.durable else (f"the ledger {ledger.url}", "store")
    stronger = facts.stronger if ledger.durable else ""
    return Mistake(
        f"flow {flow.name}",
        f"is exact, but {weak} acknowledges before its data is on disk",
        f"{stronger or f'use a {kind} of sqlite:/// or postgresql:// (with fsync on)'},"
        ' or say robustness = "standard"',
    )


def unsure(flow: Flow, target: str, sink: Sink, facts: Capabilities) -> list[Mistake]:
    """What a person would have to look up after a call was cut off, for the target cannot be asked."""
    if flow.robustness is not Robustness.EXACT or (facts.transactional and not sink.steps):
        return []
    where, found = f"flow {flow.name}", []
    if not (facts.lookup and sink.match) and (sink.steps or not facts.upsert):
        what = f"is exact, but what became of a call for {sink.resource!r} that was cut off, nobody can ask {target}"
        remedy = "name the sink's match=… and let the resource be looked up; else a person is asked each time"
        found.append(Mistake(where, what, remedy))
    for step in sink.steps:
        if step.done_when is None or not facts.lookup:
            what = f"is exact, but whether {target} has taken the step {step.action!r}, nobody can see"
            remedy = "give the step its done_when=…, and let the resource be looked up; else it may be taken twice"
            found.append(Mistake(where, what, remedy))
    return found
