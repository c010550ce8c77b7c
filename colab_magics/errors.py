"""Every error a caller may want to catch, one tree.

ColabError
├── UsageError             the caller's fault: what was asked cannot be done; the message says what to do next
│   ├── NoRepositoryError  not inside a Git work tree
│   ├── NoRemoteError      the work tree has no remote to queue to
│   ├── SnapshotError      the code on disk cannot be sent as it is
│   ├── SpecError          an entry of experiments.json, or the options of a job, do not describe a job
│   └── VariableError      a variable cannot be sent, fetched or opened
├── StoreError             the repository's or the remote's fault
│   ├── UnreachableError   nobody answered: what was asked waits and may be tried again
│   ├── RefusedError       the remote answered no: credentials, permission, a hook, a quota
│   ├── MissingError       what a job names, its code or a file, is not there any more
│   └── CorruptError       something is there and does not parse; it is never treated as empty
├── TunnelError            a session with another machine could not be opened, or what it was asked failed
│   └── FullDiskError      there is no room left on that machine's disk
├── TransitionError        an event that the state table does not allow from the state it met
└── JobFailedError         a job that the caller waited for did not succeed
"""

from __future__ import annotations


class ColabError(Exception):
    """Base of all errors that colab-magics raises on purpose. `str(error)` is one clear sentence."""


class UsageError(ColabError):
    """What the caller asked for cannot be done as asked."""


class NoRepositoryError(UsageError):
    """The folder is not inside a Git work tree."""


class NoRemoteError(UsageError):
    """The work tree has no remote of the name asked for."""


class SnapshotError(UsageError):
    """The code on disk cannot be sent as it is."""


class SpecError(UsageError):
    """An entry of experiments.json, or the options of a job, do not describe a job."""


class VariableError(UsageError):
    """A variable cannot be sent, fetched or opened."""


class StoreError(ColabError):
    """The store could not do what it was asked."""


class UnreachableError(StoreError):
    """Nobody answered in time. Nothing is known about what happened on the other side."""


class RefusedError(StoreError):
    """The remote understood and said no."""


class MissingError(StoreError):
    """What a job names, its code or a file beside its entry, is not there any more."""


class CorruptError(StoreError):
    """Stored data does not parse. Absent is empty; corrupt raises."""


class TunnelError(ColabError):
    """A session with another machine could not be opened, or could not do what it was asked."""


class FullDiskError(TunnelError):
    """There is no room left on the other machine's disk."""


class TransitionError(ColabError):
    """An event met a state from which the table does not allow it."""


class JobFailedError(ColabError):
    """A job that the caller waited for ended in another state than succeeded."""
