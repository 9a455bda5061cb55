"""What a run says. Reads the JSON of runs, and nothing else of the suite."""
