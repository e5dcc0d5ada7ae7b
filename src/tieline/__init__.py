"""Tieline connects a company's business systems and keeps the company in control of it."""

from tieline.adapter import Adapter, Ids, Step
from tieline.entity import Entity, Event, Measure, Money, Ref, Value
from tieline.errors import Hold, InDoubt, MissingReference, Reject, RetryLater, Unavailable
from tieline.flow import Flow, Robustness, Target
from tieline.process import Process
from tieline.system import Landscape, System

__all__ = [
    "Adapter",
    "Entity",
    "Event",
    "Flow",
    "Hold",
    "Ids",
    "InDoubt",
    "Landscape",
    "Measure",
    "MissingReference",
    "Money",
    "Process",
    "Ref",
    "Reject",
    "RetryLater",
    "Robustness",
    "Step",
    "System",
    "Target",
    "Unavailable",
    "Value",
]
