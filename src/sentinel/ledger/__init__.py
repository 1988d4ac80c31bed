"""The ledger: every transaction, decision and label, append-only and durable."""
