"""Keepers of the bus port."""
