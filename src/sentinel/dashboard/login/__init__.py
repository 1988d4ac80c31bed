"""Who may see the dashboard: users, their sessions, and the door in front of every page."""
