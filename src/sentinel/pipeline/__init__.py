"""The jobs of the platform's life: one plain function each, for the command line and Airflow alike.

    importing   history and labels into the ledger
    apply       feature definitions into the plan and Feast's registry
    backfill    the log into vectors, and the state that serving starts from
    materialize profiles and historic transactions into the online store
    verify      the proof that offline and online vectors are the same, bit for bit
    verify_sample   the same for a few rows of everything that is served
    datasets    vectors and what was known of them at a moment, as files
    training    a dataset into a tracked, registered candidate
    gate        is the candidate at least as good as the champion?
    promotion   a candidate into the champion, and one step back
    follow      the champion of the registry into the folder that serving reads

Every job takes the settings and returns a small frozen result. None of them prints: how far a
job is, it tells its ``progress`` callback as (stage, done, total), the total None if unknown.
"""
