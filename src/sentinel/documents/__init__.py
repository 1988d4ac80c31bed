"""Documents that a deployment keeps in versions: what holds, who made it, and what held before."""
