"""Errors the user can fix. Each message is one line and says how."""


class WrongInputError(ValueError):
    """A file or value that the user named is missing or wrong."""


class NotMeasurableError(Exception):
    """A measurement isn't possible on this machine or in this repository."""
