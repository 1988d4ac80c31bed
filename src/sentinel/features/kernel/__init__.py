"""How it is computed: the fold, and the parts of a record that it reads and changes.

`rings`, `lasts` and `distincts` are the sections of a record. Each says how its features are read,
how it moves on as time does, how a transaction is added, and which times its windows still cover.
`fold` puts them together for one event after the other; `sweep` and `windows` do the same for many
events of a view at once. `finish` writes what needs no state, `deviation` computes an exact spread.
"""
