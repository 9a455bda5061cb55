"""One page that shows a run: self-contained HTML."""
