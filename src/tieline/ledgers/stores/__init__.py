"""The stores of the ledger port in SQL, one idea a file, written once over a small dialect."""
