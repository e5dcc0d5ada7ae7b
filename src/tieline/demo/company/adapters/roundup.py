"""A maintenance system on Roundup, through its REST API."""

from datetime import UTC, datetime
from typing import Any

from entities import Request

from tieline import Adapter
from tieline.connectors.rest import PageNumber, Resource, Rest

maintenance = Adapter(
    Rest(
        requests=Resource(
            "/rest/data/issue",
            items="data.collection",
            item=None,  # a single record has another shape there
            filters={"id": "id"},
            count="data.@total_size",
            query={"@fields": "id,title,asset,creation,activity", "@sort": "id"},
            paging=PageNumber(page="@page_index", size_parameter="@page_size"),
        )
    )
)


@maintenance.source(Request, "requests")
def request(record: dict[str, Any]) -> Request:
    """A maintenance request."""
    return Request(
        number=str(record["id"]),
        title=record["title"] or "",
        asset=record.get("asset") or "",
        reported_at=moment(record["creation"]),
        changed_at=moment(record["activity"]),
    )


def moment(text: str) -> datetime:
    """Roundup writes times as 2026-11-21.12:00:00, in UTC."""
    return datetime.strptime(text, "%Y-%m-%d.%H:%M:%S").replace(tzinfo=UTC)
