"""Systems and the landscape they make: what a project declares, as objects.

`tieline.project` reads the TOML into these; a program may as well build them itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tieline.adapter import Adapter
from tieline.entity import Entity
from tieline.flow import Flow
from tieline.process import Process
from tieline.settings import SystemSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """When a source is read: every so many seconds, by cron line and time zone, pushed, or by hand."""

    kind: Literal["every", "cron", "webhook", "change", "hand"]
    seconds: float = 0.0
    cron: str = ""
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What an operator sets of one source.

    `sweep` is the time between full sweeps in seconds (0: never). `overlap` is how far before its
    cursor an incremental source is read again, in seconds. `brake` is the share of known keys, from
    0 to 1, above which deletes wait for a person.
    """

    triggers: tuple[Trigger, ...] = (Trigger(kind="every", seconds=300.0),)
    sweep: float = 86_400.0
    overlap: float = 300.0
    brake: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One business system, its adapter and its connection.

    `settling` is how many seconds a look-up that finds nothing proves nothing after a call was cut off.
    """

    name: str
    adapter: Adapter
    settings: SystemSettings
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    settling: float = 120.0

    def source_settings(self, name: str) -> SourceSettings:
        """Settings of a source, or the defaults."""
        return self.sources.get(name, SourceSettings())


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """All systems, entities, flows and processes of a company.

    `buses` maps a bus name to its address; "main" is what `via = "bus"` means. `file` is the project
    file, where it comes from one.
    """

    name: str
    store: str = "sqlite:///.tieline/tieline.db"
    folder: Path = Path()
    file: Path | None = None
    buses: Mapping[str, str] = field(default_factory=dict)
    systems: Mapping[str, System] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)
    flows: Mapping[str, Flow] = field(default_factory=dict)
    entities: Mapping[str, type[Entity]] = field(default_factory=dict)
