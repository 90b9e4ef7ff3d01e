"""Write simulated transactions into data/input_data: `python scripts/create_demo_data.py --help`."""

from fraud_simulation.command import create_data

if __name__ == "__main__":
    create_data()
