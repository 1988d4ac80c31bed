"""Who may come in: keys, what each is for, and where they are kept. It knows nothing of HTTP."""
