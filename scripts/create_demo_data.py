"""Write simulated transactions into data/input_data: `python scripts/create_demo_data.py --help`."""

import sys

from fraud_detection.cli import main

if __name__ == "__main__":
    main(["create-data", *sys.argv[1:]], prog_name="fraud-detection")
