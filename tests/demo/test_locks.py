"""What the demo installs is named to the last version, and nothing else is said."""

import re

import pytest

from tieline.demo.systems import DemoSystem, Oscar, Roundup, Tryton


@pytest.mark.parametrize("system", [Oscar, Tryton, Roundup])
def test_a_lock_names_packages_and_versions_only(system: type[DemoSystem], tmp_path) -> None:
    """No address, no path, no comment; every requirement is among the packages."""
    lock = system(tmp_path, tmp_path).environment.lock.read_text().splitlines()
    assert lock == sorted(set(lock))
    assert not [line for line in lock if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]
    names = {line.partition("==")[0] for line in lock}
    wanted = {re.split(r"[\[<>=]", requirement)[0].replace("_", "-") for requirement in system.requirements}
    assert wanted <= names
