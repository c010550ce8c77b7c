"""What a remote's answer means: landed, lost the race, refused, or nobody there. Nothing here runs git.

Source: git's send-pack.c, builtin/receive-pack.c, transport.c (2.34-2.47) for the reasons in parentheses;
https://github.com/ad-m/github-push-action/issues/61 and docs.github.com for GitHub's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from colab_magics.errors import ColabError, RefusedError, StoreError, UnreachableError
from colab_magics.store.git_process import Finished


class PushOutcome(StrEnum):
    """What became of a push that the remote answered without refusing it."""

    LANDED = "landed"
    """All refs are as asked, by this push or already before it."""
    REJECTED = "rejected"
    """Another push was faster; no ref moved. Fetch, decide again, build again."""


@dataclass(frozen=True, slots=True)
class Refspec:
    """What to fetch: a full ref and where it goes, or two prefixes that end in `/*`. Always forced."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class PushUpdate:
    """What to push: `source` (a commit's id; None deletes) goes to the full ref `target`.

    `expect` is what the ref must be on the remote for the push to land: an object id, `git_names.ABSENT` for
    "does not exist yet", or None to overwrite whatever is there. `tracking` is a ref of this clone that git
    moves along once the remote has moved its own.
    """

    source: str | None
    target: str
    expect: str | None = None
    tracking: str | None = None


# A reason that says: somebody else moved the ref between our look and our push.
_RACE = re.compile(
    r"""stale\ info | non-fast-forward | fetch\ first | failed\ to\ update\ ref | failed\ to\ lock
    | cannot\ lock\ ref | failed$ | incorrect\ old\ value | remote\ ref\ updated | already\ exists
    | reference\ already\ exists | needs\ force | expected\ old\ | but\ expected | is\ at\ .*\ but
    | atomic\ push\ fail | atomic\ transaction\ fail | transaction\ (to\ update\ refs\ )?aborted""",
    re.VERBOSE | re.IGNORECASE,
)

# Nothing is known about the other side: the answer, if there was one, was lost on the way.
_UNREACHABLE = re.compile(
    r"""could\ not\ resolve | couldn't\ resolve | name\ resolution | failed\ to\ connect | couldn't\ connect
    | connection\ (refused|reset|timed\ out|closed|was\ reset) | timed\ out | timeout | no\ route\ to\ host
    | network\ is\ (unreachable|down) | hung\ up | early\ EOF | unexpected\ disconnect | empty\ reply
    | rpc\ failed | returned\ error:\ (5\d\d|408|429) | curl\ (6|7|16|18|28|35|52|55|56|92)\b
    | transfer\ closed | broken\ pipe | ssl_connect | ssl_read | gnutls | kex_exchange | recv\ failure
    | send\ failure | bad\ line\ length | internal\ server\ error | remote\ error:\ internal""",
    re.VERBOSE | re.IGNORECASE,
)

_REFUSED = re.compile(
    r"""authentication\ failed | could\ not\ read\ (username|password) | permission\ .*denied
    | access\ denied | returned\ error:\ 4(?!08|29)\d\d
    | repository\ .*not\ found | not\ appear\ to\ be\ a\ git
    | host\ key\ verification
    | dubious\ ownership | owned\ by\ someone\ else
    | hook\ declined | not\ allowed | forbidden | unauthorized | no\ such\ file | \bnot\ found\b
    | does\ not\ support | certificate | repository\ .*does\ not\ exist | invalid\ credentials""",
    re.VERBOSE | re.IGNORECASE,
)

_EPILOGUE = re.compile(
    r"hung up|could not read from remote repository|make sure you have the correct access|repository exists",
    re.IGNORECASE,
)
# A lock that was made and cannot be written to: git does not say why, and nothing else is known to be.
_DISK_FULL = re.compile(
    r"no space left on device|out of disk ?space|disk quota exceeded|disk full|couldn't write '.*\.lock'",
    re.IGNORECASE,
)
_STATUS = re.compile(r"^(?P<flag>[ +\-*!=])\t(?P<refs>[^\t]*)\t(?P<summary>.*)$")
_REASON = re.compile(r"\((?P<reason>.*)\)\s*$")


def outcome_of_push(stdout: str) -> PushOutcome | None:
    """Read `git push --porcelain` output of a push that ended with an error; None: somebody refused it.

    Every ref says why it did not move. It was a lost race if every one of them says so: with --atomic the
    others of the same push say that they fell with it.
    """
    reasons = [
        found["reason"] if (found := _REASON.search(line["summary"])) else line["summary"]
        for line in map(_STATUS.match, stdout.splitlines())
        if line and line["flag"] == "!"
    ]
    if reasons and all(_RACE.search(reason) for reason in reasons):
        return PushOutcome.REJECTED
    return None


def has_statuses(stdout: str) -> bool:
    """Whether the remote got as far as judging the refs one by one."""
    return any(line and line["flag"] == "!" for line in map(_STATUS.match, stdout.splitlines()))


def refusal_reasons(stdout: str) -> list[str]:
    """What the refs of a refused push say, each reason once, those that only fell with another left out."""
    reasons: dict[str, None] = {}
    for line in map(_STATUS.match, stdout.splitlines()):
        if line and line["flag"] == "!":
            found = _REASON.search(line["summary"])
            reason = found["reason"] if found else line["summary"]
            if not re.search(r"atomic (push|transaction) fail", reason):
                reasons[reason] = None
    return list(reasons)


def network_error(what: str, *, stderr: str, said: str) -> ColabError:
    """The error for a network command that failed before, or instead of, an answer about single refs.

    Args:
        what: what was done, to what: "Fetching from https://host/x".
        stderr: all that git wrote.
        said: the words to show, without secrets.
    """
    # A hook may print anything: what the remote's programs said is for showing, not for judging.
    own = [line for line in stderr.splitlines() if not line.startswith("remote:")]
    if any(_DISK_FULL.search(line) for line in own):
        return StoreError(f"{what} failed since the disk is full: {said}; free some space and try again.")
    # These follow any other cause; alone they mean that the connection was lost.
    causes = [line for line in own if not _EPILOGUE.search(line)]
    if any(_REFUSED.search(line) for line in causes):
        return RefusedError(f"{what} was refused: {said}; check the address, the token and what it may do.")
    if len(causes) < len(own) or any(_UNREACHABLE.search(line) for line in causes):
        return UnreachableError(f"{what} failed since nobody answered properly: {said}; try again later.")
    return StoreError(f"{what} failed: {said}.")


def advice(answer: Finished) -> str:
    """What to add to the message of a command that failed on this machine."""
    if _DISK_FULL.search(answer.stderr):
        return "; the disk is full: free some space and try again"
    return ""
