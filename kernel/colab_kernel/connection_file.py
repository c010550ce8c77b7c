"""The connection file: which addresses a frontend expects the kernel at, and the key that both sign with.

Source: https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from colab_kernel.errors import KernelError
from colab_kernel.messages import Channel, Json
from colab_kernel.zmq_wire import DEFAULT_SCHEME, Signer

_TRANSPORTS = ("tcp", "ipc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFile:
    """What a connection file says, as far as the proxy kernel needs it.

    Attributes:
        transport: `tcp` or `ipc`.
        ip: for tcp an address of this machine, for ipc what the names of the sockets begin with.
        ports: one for each of the five channels.
        signer: signs with the file's key, and checks.
    """

    transport: str
    ip: str
    ports: Mapping[Channel, int]
    signer: Signer

    @classmethod
    def read(cls, path: Path | str) -> ConnectionFile:
        """Read one. What it says beyond this (`kernel_name`, `curve_publickey`, …) is passed over.

        Raises:
            KernelError: it is not there, or does not say what it must; a SchemeError if it asks for
                signatures of an unknown kind.
        """
        fields = _fields(Path(path))
        transport = _text(fields, "transport", path=path, default="tcp")
        if transport not in _TRANSPORTS:
            raise KernelError(
                f"the connection file {path} asks for the transport {transport!r}; "
                f"known here are {' and '.join(_TRANSPORTS)}"
            )
        return cls(
            transport=transport,
            ip=_text(fields, "ip", path=path, default="127.0.0.1"),
            ports={channel: _port(fields, f"{channel}_port", path=path) for channel in Channel},
            signer=Signer.from_key(
                _text(fields, "key", path=path, default="").encode(),
                signature_scheme=_text(fields, "signature_scheme", path=path, default=DEFAULT_SCHEME),
            ),
        )

    def address(self, channel: Channel) -> str:
        """What the socket of a channel is bound to.

        Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/connect.py (_make_url),
        read in 8.10
        """
        between = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{between}{self.ports[channel]}"


def _fields(path: Path) -> dict[str, Json]:
    try:
        value: Json = json.loads(path.read_bytes())
    except OSError as error:
        raise KernelError(
            f"the connection file {path} cannot be read: {error.strerror}; it is the frontend that writes it "
            "and that names it behind -f"
        ) from error
    except (ValueError, RecursionError) as error:
        raise KernelError(f"the connection file {path} does not parse as JSON: {error}") from error
    if not isinstance(value, dict):
        raise KernelError(f"the connection file {path} is JSON, but not an object")
    return value


def _text(fields: Mapping[str, Json], name: str, *, path: Path | str, default: str) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise KernelError(f"{name} in the connection file {path} is not text")
    return value


def _port(fields: Mapping[str, Json], name: str, *, path: Path | str) -> int:
    """A port by its field's name. Zero, which lets the system choose, would tell the frontend nothing."""
    value = fields.get(name)
    if value is None:
        raise KernelError(
            f"the connection file {path} has no {name}; a kernel needs one for each of its five channels"
        )
    if type(value) is not int or not 0 < value < 65536:
        raise KernelError(f"{name} in the connection file {path} is {value!r}, which is not a port")
    return value
