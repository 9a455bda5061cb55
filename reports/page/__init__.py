"""The report page of a run: a chooser's answer in one HTML file."""
