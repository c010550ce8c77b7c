"""What ssh says, and the sentence that a person gets for it. The texts are OpenSSH 9.2's, word for word."""

from __future__ import annotations

import pytest

from colab_magics.tunnel.ssh_sentences import HostKeyError, explain

FINGERPRINT = "SHA256:j2VH/MLoKi0dVOzhYZbhRDQqgygiOz3DH0YPe6/pO04"

CHANGED = f"""\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
{FINGERPRINT}.
Offending ED25519 key in /home/ada/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f "/home/ada/.ssh/known_hosts" -R "[box]:2222"
Host key verification failed.
"""


def sentence(said: str) -> str:
    return str(explain(said, host="box", name="-p 2222 box", config="~/.ssh/config"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "ssh: Could not resolve hostname box: Name or service not known",
            "ssh did not reach box: there is no machine of that name: is it spelt as in ~/.ssh/config?",
        ),
        ("ssh: connect to host box port 2222: Connection refused", "ssh did not reach box: nobody listens"),
        ("ssh: connect to host box port 2222: Connection timed out", "ssh did not reach box: nobody answers"),
        ("ssh: connect to host box port 2222: No route to host", "ssh did not reach box: there is no way"),
        (
            "ada@box: Permission denied (publickey,password).",
            "box did not let ssh in (it would take: publickey,password): put your key there with "
            "`ssh-copy-id -p 2222 box`",
        ),
        (
            "ssh: the runtime has ended\nkex_exchange_identification: Connection closed by remote host\n"
            "Connection closed by UNKNOWN port 65535",
            "the connection to box was closed before ssh could begin: ssh: the runtime has ended",
        ),
        (
            "banner exchange: Connection to UNKNOWN port 65535: Broken pipe",
            "the connection to box was closed before ssh could begin; `ssh -v` in a terminal shows more",
        ),
        (
            "/home/ada/config: line 2: Bad configuration option: colour\n"
            "/home/ada/config: terminating, 1 bad configuration options",
            "~/.ssh/config has an option that this ssh does not know",
        ),
        ("something new", "ssh did not reach box: something new"),
        ("", "ssh did not reach box: it said nothing"),
    ],
)
def test_it_is_one_sentence_that_says_what_to_do(said: str, expected: str) -> None:
    assert expected in sentence(said)
    assert "\n" not in sentence(said)


def test_a_changed_host_key_is_told_with_the_way_out() -> None:
    assert isinstance(explain(CHANGED, host="box", name="box", config="c"), HostKeyError)
    assert f"with the fingerprint {FINGERPRINT}" in sentence(CHANGED)
    assert '`ssh-keygen -f "/home/ada/.ssh/known_hosts" -R "[box]:2222"`' in sentence(CHANGED)


def test_an_unknown_host_key_is_told_with_its_fingerprint() -> None:
    said = f"debug1: Server host key: ssh-ed25519 {FINGERPRINT}\nHost key verification failed."
    assert isinstance(explain(said, host="box", name="box", config="c"), HostKeyError)
    assert f"box is not known to ssh yet, and its key has the fingerprint {FINGERPRINT}" in sentence(said)
    assert "run `ssh -p 2222 box` once in a terminal" in sentence(said)
