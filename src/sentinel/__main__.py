"""`python -m sentinel` is the `sentinel` command."""

from sentinel.cli.main import main

main()
