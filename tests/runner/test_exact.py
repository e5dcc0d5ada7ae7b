"""What an exact flow is refused for, and what it is warned of."""

import pytest

from tieline.adapter import Sink, Step
from tieline.bus import BusCapabilities, Guarantee
from tieline.connector import Capabilities
from tieline.entity import Entity
from tieline.flow import Flow, Robustness, Target
from tieline.ledgers.memory import MemoryLedger
from tieline.runner.exact import too_weak, unsure


def flow(robustness: Robustness = Robustness.EXACT) -> Flow:
    """Orders to the ERP."""
    return Flow(name="orders", entity="Order", source="shop", targets=(Target("erp"),), robustness=robustness)


def sink(*steps: Step, match: str | None = None) -> Sink:
    """Where they go."""
    return Sink("sale", Entity, "sales", lambda order: {}, steps=steps, match=match)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("guarantee", Guarantee)
def test_an_exact_flow_needs_what_survives_a_power_cut_on_its_whole_way(guarantee: Guarantee, durable: bool) -> None:
    ledger = MemoryLedger()
    ledger.durable = durable
    facts = BusCapabilities(guarantee=guarantee)
    refused = too_weak(flow(), "main", facts, ledger)
    assert (refused is None) == (durable and guarantee >= Guarantee.SYNCED)
    if refused is not None:
        assert ("the ledger memory://" in refused.what, "bus main" in refused.what) == (not durable, durable)
    assert too_weak(flow(Robustness.STANDARD), "main", facts, ledger) is None


@pytest.mark.parametrize("durable", [True, False])
def test_the_remedy_is_the_setting_of_the_engine_that_is_too_weak(durable: bool) -> None:
    """Where the ledger is, no setting of the bus helps."""
    ledger = MemoryLedger()
    ledger.durable = durable
    facts = BusCapabilities(guarantee=Guarantee.WRITTEN, stronger="say ?sync=always")
    refused = too_weak(flow(), "main", facts, ledger)
    assert refused is not None
    assert ("say ?sync=always, or say robustness" in refused.remedy) == durable


DONE = Step("post", done_when=lambda record: True)


@pytest.mark.parametrize(
    ("facts", "chosen", "doubts"),
    [
        (Capabilities(transactional=True), sink(), 0),
        (Capabilities(upsert=True), sink(), 0),
        (Capabilities(lookup=True), sink(match="reference"), 0),
        (Capabilities(lookup=True), sink(), 1),
        (Capabilities(), sink(match="reference"), 1),
        (Capabilities(lookup=True), sink(DONE, match="reference"), 0),
        (Capabilities(lookup=True), sink(Step("post"), match="reference"), 1),
        (Capabilities(lookup=True, transactional=True), sink(Step("post"), match="reference"), 1),
        (Capabilities(upsert=True), sink(DONE), 2),
    ],
)
def test_an_exact_flow_is_warned_of_what_nobody_could_ask_its_target(
    facts: Capabilities, chosen: Sink, doubts: int
) -> None:
    assert len(unsure(flow(), "erp", chosen, facts)) == doubts
    assert unsure(flow(Robustness.STANDARD), "erp", chosen, facts) == []
