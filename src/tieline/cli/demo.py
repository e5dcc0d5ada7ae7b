"""``tieline demo``: a small company, running on this machine."""

from typing import Annotated

import typer

from tieline.cli.options import VerboseOption, command_app
from tieline.cli.output import log_to_stderr
from tieline.demo.run import main

app = command_app()


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Show it working, once, and end.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a small company on this machine: a real webshop, ERP and maintenance system, connected."""
    log_to_stderr(verbose=verbose)
    raise typer.Exit(main(once) or 0)
