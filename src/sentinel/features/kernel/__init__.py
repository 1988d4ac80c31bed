"""How it is computed: the fold and the parts of a record that it reads and changes."""
