"""A FAKE of Colab's secrets, for tests: they are variables, FAKE_SECRET_… ."""

import os


class SecretNotFoundError(Exception):
    """There is no secret of that name."""


def get(key):
    """The secret of that name."""
    try:
        return os.environ["FAKE_SECRET_" + key]
    except KeyError:
        raise SecretNotFoundError(key) from None
