"""The real systems of the demo, for suites that speak to one of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from yarl import URL

from tieline.demo.system import default_home
from tieline.demo.systems import Oscar, Tryton, company, running


@contextmanager
def named_or_started(variable: str, kind: type[Oscar | Tryton], folder: Path) -> Iterator[None]:
    """While this lasts, `variable` names a system: yours, if it did before, or the demo's own, run in `folder`."""
    if variable in os.environ:
        yield
        return
    (system,) = (one for one in company(default_home(), folder) if isinstance(one, kind))
    with running([system], lambda name, text, done: None), pytest.MonkeyPatch.context() as patch:
        address = URL(system.url).with_user(system.access.user).with_password(system.access.password)
        patch.setenv(variable, str(address))
        yield
    system.forget()
