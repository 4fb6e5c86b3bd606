"""Durable metadata: immutable objects, refs that move only by compare-and-swap, the ledger."""
