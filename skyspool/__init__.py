"""The thin client: parse, read the ledger, drop a file, print. Imports nothing of spoold."""
