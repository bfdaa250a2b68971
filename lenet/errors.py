"""The error that a user can cause and mend."""


class LenetError(ValueError):
    """Something the user gave cannot be used; the message names it and says what to do.

    The command line prints the message alone and exits with status 2.
    """
