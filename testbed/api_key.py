"""The API key comes from the environment, so that none stands in a file or in the shell's history."""

import os

from loadgen.errors import InputError


def read_api_key(variable: str | None) -> str | None:
    """The key in an environment variable; None where no variable is named.

    Raises:
        InputError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise InputError(f"environment variable {variable}: is not set; export it with the API key")
    return key
