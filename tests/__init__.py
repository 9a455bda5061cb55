"""Tests of the suite; each file mirrors a room."""
