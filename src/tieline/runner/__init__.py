"""Reads, publishes, delivers, parks, retries, backfills."""

from tieline.runner.worker import Runner

__all__ = ["Runner"]
