"""``tieline backfill``: current values, on purpose."""

import asyncio
from typing import Annotated

import typer

from tieline.cli import running
from tieline.cli.options import ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import err, log_to_stderr
from tieline.project.findings import meant
from tieline.runner.plan import flows_behind
from tieline.system import Landscape

app = command_app()


@app.command()
def backfill(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow whose targets get current values.")],
    to: Annotated[str | None, typer.Option("--to", help="Only this system.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Write also what the target holds already.")] = False,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Send current values to a flow's targets; by the worker that runs, or here where none does."""
    landscape = project_at(project).landscape
    if flow not in landscape.flows:
        raise typer.BadParameter(f"there is no flow {flow!r}; {meant(flow, landscape.flows)}")
    targets = [target.system for target in landscape.flows[flow].targets]
    if to is not None and to not in targets:
        raise typer.BadParameter(f"flow {flow} does not lead to {to!r}; {meant(to, targets)}", param_hint="--to")
    log_to_stderr(verbose=verbose)
    raise typer.Exit(asyncio.run(_backfill(landscape, flow, to, again)))


async def _backfill(landscape: Landscape, flow: str, to: str | None, again: bool) -> int:
    async with running.runner_for(landscape, flows_behind(landscape, flow)) as runner:
        legs = await runner.backfill(flow, to, again)
        holders = await runner.ledger.transact(lambda stores: stores.leases.holders())
        if any(name.startswith("worker:") for name in holders):
            err().print(f"asked for: {', '.join(legs)}; the worker that runs sends it")
            return 0
        return await running.run(runner, once=True)
