"""Fetching and pushing: exact refs, all or nothing, with an outcome that can be told apart."""

from __future__ import annotations

import time
from collections.abc import Sequence

from colab_magics.errors import RefusedError
from colab_magics.store import git_answers
from colab_magics.store.git_answers import PushOutcome, PushUpdate, Refspec
from colab_magics.store.git_names import ABSENT, check_ref, check_sha, redact_url
from colab_magics.store.git_process import Finished
from colab_magics.store.git_runner import LOCK_ATTEMPTS, LOCK_PAUSE_S, GitRunner

_FETCH = (
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-gc",
    "--no-recurse-submodules",
    "--no-show-forced-updates",
    "--no-prune-tags",
    # Without it git also updates refs/remotes/<name>/*, as the person's configuration says.
    "--refmap=",
)
_PUSH = (
    "push",
    "--porcelain",
    "--atomic",
    "--no-verify",
    "--no-follow-tags",
    "--no-signed",
    "--no-progress",
    "--recurse-submodules=no",
)

_PUSH_REMOTE = "the queue"
"""A remote that only one command knows: git moves the tracking refs of a remote that has a name along with
what it pushes. `git remote add` takes no name with a space, so nobody has one of that name."""

_COMPRESSED_BEYOND_BYTES = 1024
_SPELLINGS_BYTES = 6 * len("0000ref-prefix \n") + len(
    "refs/refs/tags/refs/heads/refs/remotes/refs/remotes//HEAD"
)
"""What six spellings of a ref's name add to six times the name."""


def fetch(
    runner: GitRunner,
    url: str,
    refspecs: Sequence[Refspec],
    *,
    prune: bool,
    depth: int | None,
    timeout_s: float | None,
) -> list[Refspec]:
    """Fetch refs; return those exact ones that the remote does not have."""
    what = f"fetching from {redact_url(url)}"
    flags = ["--prune" if prune else "--no-prune"]
    if depth is not None:
        flags.append(f"--depth={int(depth)}")
    wanted, absent, tries = list(refspecs), [], LOCK_ATTEMPTS
    while wanted:
        specs = _refspecs(wanted, is_http=url.startswith("http"))
        answer = runner.network(
            *_FETCH, *flags, "--", runner.target(url), *specs, url=url, what=what, timeout_s=timeout_s
        )
        if answer.returncode == 0:
            break
        if ".lock': File exists" in answer.stderr and tries:
            # Another process of ours fetches the same refs.
            tries -= 1
            time.sleep(LOCK_PAUSE_S)
            continue
        lines = answer.stderr.splitlines()
        gone = [spec for spec in wanted if f"fatal: couldn't find remote ref {spec.source}" in lines]
        if not gone:
            raise runner.network_failure(what, answer)
        # git gives up at the first one that is missing; the others show in the next round.
        absent += gone
        wanted = [spec for spec in wanted if spec not in gone]
    return absent


def push(
    runner: GitRunner, url: str, updates: Sequence[PushUpdate], *, timeout_s: float | None
) -> PushOutcome:
    """Push refs, all or none."""
    if not updates:
        return PushOutcome.LANDED
    what = f"pushing to {redact_url(url)}"
    leases = [lease for update in updates for lease in _lease(update)]
    specs = [_spec(update) for update in updates]
    config = [
        f"remote.{_PUSH_REMOTE}.url={runner.target(url)}",
        *(each for update in updates for each in _track(update)),
    ]
    named = [word for setting in config for word in ("-c", setting)]
    answer = runner.network(
        *named, *_PUSH, *leases, "--", _PUSH_REMOTE, *specs, url=url, what=what, timeout_s=timeout_s
    )
    if answer.returncode == 0:
        return PushOutcome.LANDED
    stdout = answer.stdout.decode("utf-8", "replace")
    outcome = git_answers.outcome_of_push(stdout)
    if outcome is not None:
        return outcome
    # git does not even ask the remote to delete what it does not have.
    gone = [u for u in updates if f"unable to delete '{u.target}': remote ref" in answer.stderr]
    if any(update.expect is not None for update in gone):
        return PushOutcome.REJECTED
    if gone:
        return push(runner, url, [u for u in updates if u not in gone], timeout_s=timeout_s)
    if git_answers.has_statuses(stdout):
        raise _refusal(runner, what, answer, stdout)
    raise runner.network_failure(what, answer)


def _lease(update: PushUpdate) -> list[str]:
    if update.expect is None:
        return []
    expected = "" if update.expect == ABSENT else check_sha(update.expect)
    return [f"--force-with-lease={check_ref(update.target)}:{expected}"]


def _track(update: PushUpdate) -> list[str]:
    if update.tracking is None:
        return []
    return [f"remote.{_PUSH_REMOTE}.fetch=+{check_ref(update.target)}:{check_ref(update.tracking)}"]


def _spec(update: PushUpdate) -> str:
    source = check_sha(update.source) if update.source else ""
    # `+` would override a lease.
    return f"{'+' if update.expect is None else ''}{source}:{check_ref(update.target)}"


def _refusal(runner: GitRunner, what: str, answer: Finished, stdout: str) -> RefusedError:
    reasons = "; ".join(git_answers.refusal_reasons(stdout))
    words = runner.say(answer) if "remote:" in answer.stderr else ""
    detail = ": ".join(part for part in (reasons, words) if part)
    return RefusedError(f"{what} was refused: {detail}; nothing was changed there.")


def _refspecs(specs: Sequence[Refspec], *, is_http: bool) -> list[str]:
    """What to fetch, as git's arguments; over HTTP so often that git compresses what it asks.

    git asks for each exact ref in six spellings, and compresses only a long request: the same refs said
    twice are half the bytes. Source: refspec.c, `refspec_ref_prefixes`; remote-curl.c, `post_rpc`.
    """
    words = {f"+{_side(spec.source)}:{_side(spec.target)}": spec for spec in specs}
    exact = {word: spec for word, spec in words.items() if not spec.source.endswith("/*")}
    asked_bytes = sum(6 * len(spec.source) + _SPELLINGS_BYTES for spec in exact.values())
    repeats = _COMPRESSED_BEYOND_BYTES // asked_bytes if is_http and exact else 0
    return [*words, *list(exact) * repeats]


def _side(name: str) -> str:
    if name.endswith("/*"):
        return check_ref(name.removesuffix("/*")) + "/*"
    return check_ref(name)
