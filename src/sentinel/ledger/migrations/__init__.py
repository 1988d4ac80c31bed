"""The PostgreSQL ledger's tables, one revision after the other. Run by `sentinel.ledger.schema`."""
