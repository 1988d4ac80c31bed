"""The language of the log: its columns, its entries, and what a label does to its transaction."""
