"""The routes of the API: a file for each subject, with its requests and answers beside it."""
