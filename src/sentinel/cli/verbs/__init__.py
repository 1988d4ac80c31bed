"""The verbs of `sentinel`, a file for each subject. Each imports what it needs when called."""
