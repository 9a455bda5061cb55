"""Backends: one module each. A module with a leading underscore holds what a family shares."""
