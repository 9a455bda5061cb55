"""What can go wrong that somebody outside the program has to mend; each message is one line and says how."""


class WrongInputError(ValueError):
    """What was named is not there, or is not what it should be."""


class NotMeasurableError(Exception):
    """What was named cannot be measured here."""
