"""The figures of a run: what they show, and how matplotlib draws them."""
