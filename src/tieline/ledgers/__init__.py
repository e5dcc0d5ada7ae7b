"""Keepers of the ledger port."""
