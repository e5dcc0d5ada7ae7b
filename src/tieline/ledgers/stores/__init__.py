"""The parts of the ledger in SQL, one idea a file, written once over a small dialect."""
