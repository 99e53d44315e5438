"""Errors that the user can fix; the command line shows their message without a traceback."""


class UserError(ValueError):
    """What was given, what is allowed, and how to fix it, in one message."""
