"""One spelling for each value, whichever door it comes in by.

Payments arrive over the API, in files, in data frames of Feast; labels and questions name them.
All of them read values here, so that the same payment is the same bytes in the log.

    values     single ids, categories, numbers and addresses
    columns    the same for whole Arrow columns
    cards      what is a card number, one at a time and by column
    tokens     ids that are replaced by keyed hashes before anything is stored

Each function of `columns` has its twin in `values`; tests prove that they agree.
"""
