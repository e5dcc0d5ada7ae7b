"""Keepers of the connector port."""
