"""The one error that a person, not a programmer, is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line: where, what is wrong, what was got, what to do.

    The `burstscale` command prints the message and exits with code 2.
    """
