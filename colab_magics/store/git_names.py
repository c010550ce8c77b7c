"""Names that reach git as arguments, each checked before use: refs, object ids, paths, addresses."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from colab_magics.errors import StoreError

SHA_LENGTH = 40
ABSENT = "0" * SHA_LENGTH
"""Stands for "no such ref": what a compare-and-swap may expect, and what git itself writes."""
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without entries; git knows it without having it."""

TOKEN_LENGTH = 20
"""No hosting site has shorter tokens; GitLab's are the shortest.
Source: https://docs.gitlab.com/security/tokens/"""

_SHA = re.compile(r"[0-9a-f]{40}")
_REMOTE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# What git-check-ref-format(1) allows, minus everything that a shell, a glob or a terminal could mind.
_PART = r"(?!\.)(?!-)(?:(?!\.\.)(?!@\{)[^\x00-\x20\x7f~^:?*\[\\/])+(?<!\.)(?<!\.lock)"
_REF = re.compile(rf"refs(?:/{_PART}){{1,20}}")
_SCP_LIKE = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._+-]*@[A-Za-z0-9\[][A-Za-z0-9.:\]-]*:(?!:)[^\s\x00-\x1f-][^\x00-\x1f]*"
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_sha(sha: str) -> str:
    """Return `sha` if it is a full object id."""
    if not _SHA.fullmatch(sha):
        raise StoreError(f"{sha!r} is no object id; a full one of {SHA_LENGTH} hex digits is needed.")
    return sha


def check_ref(ref: str) -> str:
    """Return `ref` if it is a full ref name, such as `refs/heads/main`."""
    if not _REF.fullmatch(ref):
        raise StoreError(
            f"{ref!r} is no ref that can be used; a full name such as refs/heads/main is needed."
        )
    return ref


def check_remote(name: str) -> str:
    """Return `name` if it can be a remote's name, such as `origin`."""
    if not _REMOTE.fullmatch(name):
        raise StoreError(f"{name!r} is no name of a remote; git remote -v lists them.")
    return name


def check_path(path: str) -> str:
    """Return `path` if it can stand in a tree: relative, in normal form, without `.git`."""
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
    if bad or "\0" in path or "\n" in path:
        raise StoreError(
            f"{path!r} cannot be a path in a commit; it must be relative, without '..' or '.git'."
        )
    return path


def check_url(url: str) -> str:
    """Return `url` if git may be sent there.

    https, ssh, `user@host:path`, file:// and absolute paths; http to this machine only, since a token would
    travel in the clear. Never `ext::`, nor anything that git could take for an option.

    Raises:
        StoreError: it is something else; the message has no credentials in it.
    """
    shown = redact_url(url)
    if not url or url.startswith("-") or any(character < " " for character in url):
        raise StoreError(f"{shown!r} is no address of a repository.")
    if url.startswith("/") or _SCP_LIKE.fullmatch(url):
        return url
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (parts.scheme in ("https", "ssh") and host and not host.startswith("-")) or (
        parts.scheme == "file" and not host and parts.path.startswith("/")
    ):
        return url
    if parts.scheme == "http" and host in _LOOPBACK:
        return url
    if parts.scheme == "http":
        raise StoreError(f"{shown} would send its token unencrypted; use https instead of http.")
    raise StoreError(
        f"{shown!r} is no address that can be used; use https://, ssh://, git@host:path or file:///."
    )


def is_on_this_machine(url: str) -> bool:
    """Whether the address leads to this machine: a path, file://, or a loopback host."""
    parts = _split(url)
    if url.startswith("/") or parts is None:
        return url.startswith("/")
    return parts.scheme == "file" or (parts.hostname or "") in _LOOPBACK


def split_credentials(url: str) -> tuple[str, str | None]:
    """Split `https://user:token@host/path` into `https://user@host/path` and the token.

    What stands alone before the host is a token, as hosting sites also take it, if it is long enough for one,
    else the user. The token is None where there is none. An ssh address keeps its user, which is no secret.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, None
    userinfo, _, host = parts.netloc.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if not colon and len(user) < TOKEN_LENGTH:
        return url, None
    if not colon:
        user, password = "", user
    netloc = f"{user}@{host}" if user else host
    return urlunsplit(parts._replace(netloc=netloc)), unquote(password)


def redact_url(url: str) -> str:
    """The address as it may be shown: without user, password and query."""
    parts = _split(url)
    if parts is None or not parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
