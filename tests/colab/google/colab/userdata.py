"""A FAKE of Colab's secrets, for tests: those in the JSON of the file that FAKE_COLAB_SECRETS names."""

import json
import os
from pathlib import Path


class SecretNotFoundError(Exception):
    """There is no secret of that name."""


def get(key):
    """Return a secret, as `google.colab.userdata.get` does."""
    path = os.environ.get("FAKE_COLAB_SECRETS")
    secrets = json.loads(Path(path).read_text()) if path else {}
    if key not in secrets:
        raise SecretNotFoundError(f"Secret {key} does not exist.")
    return secrets[key]
