"""The webshop: django-oscar with django-oscar-api, served by gunicorn."""

from __future__ import annotations

import secrets
from pathlib import Path

from tieline.demo.children import Child
from tieline.demo.system import CATALOGUE, SEEDS, Access, DemoSystem, Progress, ask


class Oscar(DemoSystem):
    """`url` is the shop's front page, its API is at `url + "/api"`; see docs/systems/oscar.md."""

    name = "oscar"
    title = "django-oscar (webshop)"
    requirements = (
        "django-oscar[sorl-thumbnail]==4.1",
        "django-oscar-api==3.3.0",
        "django<5.3",
        "django-treebeard<5",
        "gunicorn",
    )
    seeds = (
        "catalogue.csv",
        "shop/seed.py",
        "shop/settings.py",
        "shop/tokens.py",
    )

    @property
    def url(self) -> str:
        """The shop's front page."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """The shop's own SQLite file."""
        return self.data / "shop.sqlite"

    def _seed(self, folder: Path, access: Access, progress: Progress) -> None:
        progress(self.name, "filling the catalogue", None)
        settings = {"SHOP_USER": access.user, "SHOP_PASSWORD": access.password, "SHOP_TOKEN": access.token}
        self._run(["-m", "shop.seed", CATALOGUE], folder, {**self._settings(folder), **settings})

    def _serve(self) -> Child:
        command = ["-m", "gunicorn", "--workers", "2", "--threads", "4", "--bind", f"127.0.0.1:{self.port}"]
        return Child(
            [self.environment.python, *command, "--no-control-socket", "--log-level", "warning", "shop.wsgi"],
            cwd=self.data,
            log=self.log,
            env=self._settings(self.data),
        )

    def _answers(self) -> bool:
        return ask(f"{self.url}/api/") is not None

    def _settings(self, folder: Path) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": str(SEEDS),
            "HOME": str(folder),
            "SHOP_DATA": str(folder),
            "SHOP_SECRET": secrets.token_urlsafe(40),
        }
