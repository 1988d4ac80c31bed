"""What tests and benchmarks share: real servers, scratch workspaces, and the oracle.

The kit imports neither of the two. `oracle` is the plain definition of every feature;
`entry_fold` and `redis_fold` drive one event after another through the engines; `servers` and
`airflow_server` start real services without root; `scratch` and `shared_scorers` make workspaces
and run scorers over them; `shapes` draws files in the shapes of public data sets; `payments` and
`ports` give random payments and free ports.
"""
