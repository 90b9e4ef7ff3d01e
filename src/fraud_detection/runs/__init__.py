"""What one run does, from its inputs to its decision, its report and its outcome."""
