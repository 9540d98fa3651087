"""The one error that a person, not a programmer, is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line: where, what is wrong, what was got, what to do.

    The `burstscale` command prints the message and exits with code 2.
    """


def shown(text: str, most_characters: int = 60) -> str:
    """What stands in a file, for a message of one line: cut where it is long, escaped where it does not print."""
    cut = text if len(text) <= most_characters else text[:most_characters] + "..."
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)
