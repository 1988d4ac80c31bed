"""Feature definitions compiled to a plan, the fold that runs it, and its offline driver."""
