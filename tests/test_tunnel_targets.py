"""What may stand behind `%colab_tunnel`."""

from __future__ import annotations

import pytest

from colab_kernel.runtime import AuthScheme
from colab_magics.errors import UsageError
from colab_magics.tunnel.targets import Daemon, Local, Official, Ssh, Url, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("local", Local()),
        ("daemon", Daemon()),
        ("daemon:a1b2", Daemon("a1b2")),
        ("colab:my-gpu", Official("my-gpu")),
        ("colab:", Official("")),
        ("gpu-box", Ssh("gpu-box")),
        ("ssh://gpu-box", Ssh("gpu-box")),
        ("GPU-Box", Ssh("GPU-Box")),
        ("ssh://Ada@GPU-Box:2222/20022", Ssh("GPU-Box", "Ada", 2222, 20022)),
        ("ssh://ada@gpu.example.org:2222", Ssh("gpu.example.org", "ada", 2222)),
        ("ssh://ada@[2001:db8::1]", Ssh("2001:db8::1", "ada")),
        ("ssh://ada@relay.example.org:2222/20022", Ssh("relay.example.org", "ada", 2222, 20022)),
        ("ssh://relay/20022", Ssh("relay", to=20022)),
        (
            "https://host.example/user/ada/lab?token=s3cret",
            Url("https://host.example/user/ada", "s3cret", AuthScheme.JUPYTER),
        ),
        ("http://127.0.0.1:8888", Url("http://127.0.0.1:8888", "", AuthScheme.JUPYTER)),
        (
            "https://8080-m-s-x.colab.dev?colab-runtime-proxy-token=s3cret",
            Url("https://8080-m-s-x.colab.dev", "s3cret", AuthScheme.COLAB),
        ),
    ],
)
def test_a_target_is_read(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        *("", "-oProxyCommand=evil", "ssh://-oProxyCommand=evil", "ssh://-x@host", "ssh://ada:pw@host"),
        *("ssh://host/0", "ssh://host/65536", "ssh://host/20022/path"),
        *("ssh://host/path", "ssh://host:0", "ssh://host:99999", "ssh://", "ftp://host", "daemon:"),
        *("https://", "https:///x", "two words", "colab:../x", "daemon:-x"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_target(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["ftp://h?token=s3cret", "https://?token=s3cret", "ssh://h?token=s3cret"])
def test_a_token_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_target(text)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(parse_target("https://host?token=s3cret"))


@pytest.mark.parametrize("text", ["local", "daemon", "daemon:a1", "colab:x", "ssh://Ada@H:22", "https://h/x"])
def test_a_target_is_shown_as_it_is_typed(text: str) -> None:
    assert str(parse_target(text)) == text
