"""``tieline run``: everything until stopped, or once."""

import asyncio
from typing import Annotated

import typer

from tieline.cli import running
from tieline.cli.options import ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import log_to_stderr
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
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run the flows, until stopped or once; exit code 3 where something waits for a person."""
    landscape = project_at(project).landscape
    for flow in flows or ():
        if flow not in landscape.flows:
            raise typer.BadParameter(f"there is no flow {flow!r}; {meant(flow, landscape.flows)}")
    log_to_stderr(verbose=verbose)
    raise typer.Exit(asyncio.run(_run(landscape, set(flows) if flows else None, once)))


async def _run(landscape: Landscape, only: set[str] | None, once: bool) -> int:
    async with running.runner_for(landscape, only) as runner:
        return await running.run(runner, once=once)
