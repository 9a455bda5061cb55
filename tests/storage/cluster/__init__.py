"""Tests of storage/cluster."""
