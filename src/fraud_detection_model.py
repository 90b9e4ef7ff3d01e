"""The Spark job's entry: `spark-submit fraud_detection_model.py --config … --input … --output … --engine spark`.

It takes the options of `fraud-detection retrain` and does nothing else.
"""

from fraud_detection.cli import retrain

if __name__ == "__main__":
    retrain(prog_name="fraud_detection_model.py")
