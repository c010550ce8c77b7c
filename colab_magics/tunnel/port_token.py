"""The way to another port of an official runtime, asked of Google with google-colab-cli's login.

    PYTHON port_token.py [OPTIONS OF colab] --session NAME --port N --file FILE

It runs in google-colab-cli's own Python, where nothing of ours need be installed, and puts a new FILE there,
its owner's alone: `{"url": …, "token": …, "expires_at": …}`, the end in ISO 8601. It prints one JSON object:
`{}`, or `{"error": SENTENCE}`. Nothing that it prints has a token in it, and google-colab-cli's log hears
nothing of it.

google-colab-cli 0.7.5 has no call for this. Asked is what Google's VS Code extension asks, with port 8080,
when its token ends: `v1/runtime-proxy-token?endpoint=E&port=N`, which answers `{"token", "tokenTtl": "3600s",
"url"}`. It is undocumented, and was never tried on a live runtime.

Source: google-colab-cli 0.7.5, colab_cli/{client,common,cli}.py; https://github.com/googlecolab/colab-vscode,
src/colab/client/v1/{index,api}.ts (refreshConnection, RuntimeProxyTokenSchema); both read 2026-11
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

ANSWER_S = 30.0
TTL_S = 3600.0
"""How long a token counts that comes without its end: as long as all of them did."""

_XSSI = ")]}'"


class Refused(Exception):
    """It could not be had; the sentence says why."""


def main(argv: list[str] | None = None) -> int:
    """Have the file written; what is printed is one JSON object: with `error`, if it failed."""
    said: dict[str, str] = {}
    try:
        arguments = _parser().parse_args(argv)
        _replace(arguments.file, _ask(arguments))
    except Refused as error:
        said["error"] = str(error)
    print(json.dumps(said), flush=True)
    return 1 if said else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="port_token", allow_abbrev=False)
    # Those of `colab` itself, which say whose login and whose sessions are meant.
    parser.add_argument("-c", "--client-oauth-config")
    parser.add_argument("--config")
    parser.add_argument("--auth", type=str.lower)
    parser.add_argument("--logtostderr", action="store_true")
    parser.add_argument("--session", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--file", required=True, type=Path)
    return parser


def _ask(arguments: argparse.Namespace) -> dict[str, str]:
    """What the file shall hold. Whatever goes wrong in google-colab-cli is a Refused."""
    try:
        found = json.loads(_answer(arguments).removeprefix(_XSSI))
        ends = datetime.now(timezone.utc) + timedelta(seconds=_ttl_s(found))
        return {"url": str(found["url"]), "token": str(found["token"]), "expires_at": ends.isoformat()}
    except (LookupError, TypeError, ValueError):
        raise Refused("Google answered something else than an address and a token for that port") from None


def _answer(arguments: argparse.Namespace) -> str:
    try:
        from colab_cli.auth import AuthProvider
        from colab_cli.common import state

        state.config_path = arguments.config
        state.client_oauth_config = arguments.client_oauth_config or state.client_oauth_config
        state.auth_provider = AuthProvider(arguments.auth) if arguments.auth else state.auth_provider
        session = state.store.get(arguments.session)
        if session is None:
            raise Refused("google-colab-cli has no session %r" % arguments.session)
        client = state.client
        answer = client.session.request(
            "GET",
            client.colab_api_domain.rstrip("/") + "/v1/runtime-proxy-token",
            params={"endpoint": session.endpoint, "port": str(arguments.port)},
            headers={"Accept": "application/json", "X-Colab-Client-Agent": "colab-magics"},
            timeout=ANSWER_S,
        )
    except Refused:
        raise
    except EOFError:
        raise Refused("google-colab-cli wants you to log in: `colab status` in a terminal asks") from None
    except (Exception, SystemExit) as error:  # its libraries' own, which may quote what was sent
        raise Refused("google-colab-cli could not ask Google (%s)" % type(error).__name__) from None
    if not answer.ok:
        raise Refused("Google answered %d: it gives no way to that port with this login" % answer.status_code)
    return str(answer.text)


def _ttl_s(found: Any) -> float:
    """How long a token is good: Google says `3600s`, a protobuf Duration."""
    try:
        seconds = float(str(found.get("tokenTtl", "")).removesuffix("s"))
    except ValueError:
        return TTL_S
    return seconds if 0 < seconds < 1e9 else TTL_S


def _replace(path: Path, content: dict[str, str]) -> None:
    """Put a new file in the place of another, at once; only its owner may read it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".%s-" % path.stem, dir=path.parent)  # with mode 0600
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(name, path)
    except OSError as error:
        raise Refused("%s cannot be written (%s)" % (path, error.strerror)) from None


if __name__ == "__main__":
    sys.exit(main())
