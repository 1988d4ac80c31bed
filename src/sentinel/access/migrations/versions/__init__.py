"""The revisions. A released one never changes; the next change is a new file."""
