"""What processes say of themselves: log lines, ids that tie them together, traces."""
