"""The dashboard: what Sentinel decides, in a browser. It knows the scorer by HTTP only."""
