"""The way to the cloud: the environment archive, the bucket, `.env` and `variables.json`, Airflow's variables.

It imports neither the library nor Airflow: what is deployed is read as files. Each module is a command of its own,
`python -m deployment.NAME`; the Makefile's targets call them.
"""
