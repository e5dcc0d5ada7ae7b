"""``tieline run``: everything until stopped, or once."""

import asyncio
from typing import Annotated

import typer

from tieline.cli import running
from tieline.cli.health import address_of, served
from tieline.cli.options import ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import log_to_stderr
from tieline.flow import chosen
from tieline.project.findings import meant
from tieline.system import Landscape

app = command_app()


@app.command()
def run(
    flows: Annotated[
        list[str] | None, typer.Argument(metavar="FLOWS", help="Only these flows. Left out: all.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Read each source once, deliver what it gave, and end.")
    ] = False,
    health: Annotated[
        str,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Answer /healthz, /readyz and /metrics there. Without HOST: this machine only.",
        ),
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="LABEL", help="Only flows with this label; repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--except", metavar="LABEL", help="No flow with this label; repeatable.")
    ] = None,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run the flows, until stopped or once; exit code 3 where something waits for a person."""
    landscape = project_at(project).landscape
    for flow in flows or ():
        if flow not in landscape.flows:
            raise typer.BadParameter(f"there is no flow {flow!r}; {meant(flow, landscape.flows)}")
    labels = {label for flow in landscape.flows.values() for label in flow.labels}
    for label in (*(only or ()), *(without or ())):
        if label not in labels:
            raise typer.BadParameter(f"no flow has the label {label!r}; {meant(label, labels)}")
    wanted = None
    if flows or only or without:
        wanted = chosen(landscape.flows.values(), flows or (), only or (), without or ())
        if not wanted:
            raise typer.BadParameter("no flow is left to run; name fewer flows or labels")
    log_to_stderr(verbose=verbose)
    address = address_of(health) if health else None
    raise typer.Exit(asyncio.run(_run(landscape, wanted, once, address)))


async def _run(landscape: Landscape, only: set[str] | None, once: bool, address: tuple[str, int] | None) -> int:
    async with running.runner_for(landscape, only) as runner, served(runner, address):
        return await running.run(runner, once=once)
