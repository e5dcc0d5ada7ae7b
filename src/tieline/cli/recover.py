"""``tieline recover``: go on from a ledger that was put back from a back-up."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from tieline.cli.opened import opened, workers
from tieline.cli.options import FAILED, ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import Listing, counted, err, log_to_stderr, moment, out
from tieline.cli.running import strange_legs
from tieline.landscape.status import status as read_status
from tieline.ledger import SourceState, Stores
from tieline.runner.plan import SourcePlan
from tieline.runner.recovery import recover as go_on
from tieline.runner.recovery import strangers
from tieline.system import Landscape

app = command_app()


@app.command()
def recover(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how things stand, and change nothing.")] = False,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Go on from an older ledger: the next run reads everything again, and asks targets what they have."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    raise typer.Exit(asyncio.run(_recover(landscape, dry_run)))


async def _recover(landscape: Landscape, dry_run: bool) -> int:
    async with opened(landscape) as (ledger, buses, plans):
        if running := await ledger.transact(workers):
            err().print(
                f"{', '.join(running)} runs, or ran a moment ago: stop every worker, and try again when it is gone",
                style="red",
                markup=False,
            )
            return FAILED
        strange = await strangers(ledger, buses, plans)
        if strange:
            out().print(strange_legs(strange))
        else:
            out().print("no target and no bus shows that this ledger is an older one")
        out().print(await ledger.transact(lambda stores: _sources(stores, plans)))
        if dry_run:
            err().print("nothing was changed; `tieline recover` would have all of these read again")
            return 0
        recovery = await go_on(ledger, buses, plans)
        waiting = (await ledger.transact(lambda stores: read_status(landscape, stores))).for_a_person
        err().print(f"epoch {recovery.epoch} begins; the next `tieline run` reads everything again")
        if waiting:
            err().print(f"{counted(waiting, 'message')} had waited for a person; look again after the run")
        return 0


def _sources(stores: Stores, plans: Sequence[SourcePlan]) -> Listing:
    states = {plan.name: SourceState() for plan in plans} | stores.sources.all()
    return Listing(
        ["source", "keys", "read last", "epoch"],
        [
            (name, f"{stores.seen.count(name):,}", moment(state.read_at), str(state.epoch))
            for name, state in sorted(states.items())
        ],
        right=["keys", "epoch"],
    )
