"""The HTTP interface: parse, call the scorer, render. Only here are HTTP statuses known."""
