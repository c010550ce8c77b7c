"""What `ssh` says when it does not get through, made one sentence that says what to do next."""

from __future__ import annotations

import re

from colab_magics.errors import TunnelError


class HostKeyError(TunnelError):
    """The machine does not prove to be the one that is known: nothing may go there."""


_FINGERPRINT = re.compile(r"\bSHA256:[A-Za-z0-9+/]{43}")
_REMOVE = re.compile(r"ssh-keygen -f .+ -R .+")
_DENIED = re.compile(r"Permission denied \(([a-z,-]+)\)")
_TROUBLES = (
    (
        "could not resolve hostname",
        "there is no machine of that name: is it spelt as in {config}?",
    ),
    ("connection refused", "nobody listens there: the machine runs no ssh server, or at another port"),
    ("no route to host", "there is no way there: is the machine up, and the network, or a VPN, on?"),
    ("network is unreachable", "there is no network"),
    ("timed out", "nobody answers: is the machine up, and does its firewall let ssh in?"),
    ("too many authentication failures", "too many keys were tried: name one by IdentityFile in {config}"),
    ("can't open user config file", "{config} cannot be read"),
    ("bad configuration option", "{config} has an option that this ssh does not know: {last}"),
)
_HUNG_UP = ("kex_exchange_identification:", "banner exchange:", "Connection closed by", "Connection reset by")
_NOISE = (*_HUNG_UP, "Warning: Permanently added", "debug1:")


def explain(said: str, *, host: str, name: str, config: str) -> TunnelError:
    """The error for what ssh said on its standard error before it gave up.

    Args:
        host: what a person calls the machine; name: what stands behind `ssh` to get there, options included.
        config: the file that they would look into.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    lower = said.lower()
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return HostKeyError(_changed(said, host=host))
    if "Host key verification failed" in said:
        return HostKeyError(_unknown(said, host=host, name=name))
    denied = _DENIED.search(said)
    if denied:
        return TunnelError(
            f"{host} did not let ssh in (it would take: {denied[1]}): put your key there with `ssh-copy-id "
            f"{name}`, unlock it with `ssh-add`, or open the session in a terminal, where ssh can ask you"
        )
    for sign, meaning in _TROUBLES:
        if sign in lower:
            return TunnelError(f"ssh did not reach {host}: {meaning.format(config=config, last=last)}")
    if any(line.startswith(_HUNG_UP) for line in lines):
        told = [line for line in lines if not line.startswith(_NOISE)]
        why = f": {told[-1]}" if told else "; `ssh -v` in a terminal shows more"
        return TunnelError(f"the connection to {host} was closed before ssh could begin{why}")
    return TunnelError(f"ssh did not reach {host}: {last}")


def _unknown(said: str, *, host: str, name: str) -> str:
    found = _FINGERPRINT.search(said)
    shown = f"its key has the fingerprint {found[0]}" if found else "its key is not in known_hosts"
    return (
        f"{host} is not known to ssh yet, and {shown}: compare that with what its owner says, run "
        f"`ssh {name}` once in a terminal, answer yes, and try again"
    )


def _changed(said: str, *, host: str) -> str:
    found, remove = _FINGERPRINT.search(said), _REMOVE.search(said)
    shown = f", with the fingerprint {found[0]}" if found else ""
    command = f"`{remove[0]}`" if remove else "`ssh-keygen -R`"
    return (
        f"{host} shows another host key than the one that is known{shown}: somebody may be in between, and "
        f"nothing was sent; only if you know why it changed, forget the old one with {command}"
    )
