"""What the DAGs share: `naming`, `clusters`, `operators`, `outputs`, `schedule`, `attempts`, `gate`, `mlflow` and
`notifications`.

It imports nothing of the library, because Airflow does not have it: a job reports its outcome in small JSON objects in
its output folder (`docs/orchestration.md`), since Data Proc itself knows only DONE and ERROR.
"""
