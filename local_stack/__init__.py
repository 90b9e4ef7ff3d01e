"""The whole system on this machine: PostgreSQL, MLflow, the emulated cloud and Airflow, under supervisord.

`make up`, `make down`, `make status`, `make logs` and `make doctor` call it; see `docs/local_stack.md`. `settings`,
`ports` and `doctor` use the standard library alone: they run before anything is installed.
"""
