"""Kernels as a frontend starts them: bare ipykernel, and the proxy kernel in front of a Jupyter Server.

with Remotes(folder) as remotes:
    name = remotes.kernelspec(Target(proxied=True, stack=Stack.NEWEST))
    # … below remotes.search_path, for KernelSpecManager or JUPYTER_PATH
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import harness
import jupyter_servers
import kernel_environments
from jupyter_servers import JupyterServer
from kernel_environments import Stack
from tcp_proxies import TcpProxy


@dataclass(frozen=True, slots=True)
class Target:
    """A kernel to be tried: `delay_s` is what is added each way between the proxy kernel and its server."""

    proxied: bool
    stack: Stack
    delay_s: float = 0.0

    def __str__(self) -> str:
        kind = "proxy" if self.proxied else "bare"
        return f"{kind}-{self.stack}" + (f"-{self.delay_s * 1000:.0f}ms" if self.delay_s else "")


BARE = tuple(Target(False, stack) for stack in (Stack.NEWEST, Stack.COLAB))
BARE_313 = (Target(False, Stack.NEWEST_313),)
NEAR = tuple(Target(True, stack) for stack in (Stack.NEWEST, Stack.COLAB))
FAR = tuple(Target(True, stack, delay_s=0.15) for stack in (Stack.NEWEST, Stack.COLAB))


class Remotes:
    """Jupyter Servers, one for each stack that is asked for, the networks before them, and kernelspecs.

    Attributes:
        search_path: the kernelspecs are below it.
        local_root: the project's folder here; over there it is the server's root, where kernels start.
    """

    def __init__(self, folder: Path, *, local_root: Path | None = None) -> None:
        self.search_path = folder / "specs"
        self.local_root = local_root or folder / "project"
        self._folder, self._ends = folder, contextlib.ExitStack()
        self._servers: dict[Stack, JupyterServer] = {}
        self._networks: dict[Target, TcpProxy] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def kernelspec(self, target: Target, *, display_name: str | None = None) -> str:
        """Have a kernelspec for a target; return its name. `display_name`: what menus show of a proxy."""
        name = str(target)
        if target.proxied:
            runtime_dir = self._folder / f"runtime-{name}"
            self._connect(target, runtime_dir)
            kernel_environments.write_kernelspec(
                self.search_path,
                name=name,
                argv=[sys.executable, "-m", "colab_kernel", "-f", "{connection_file}"],
                env={"JUPYTER_RUNTIME_DIR": str(runtime_dir)},
                display_name=display_name,
            )
        else:
            kernel_environments.write_ipykernel_spec(self.search_path, name=name, stack=target.stack)
        return name

    def server(self, stack: Stack) -> JupyterServer:
        """The server of a stack, started when first asked for; its kernels are ordinary ipykernels."""
        if stack not in self._servers:
            folder = self._folder / f"server-{stack}"
            kernel_environments.write_ipykernel_spec(folder / "specs", name="remote", stack=stack)
            self._servers[stack] = self._ends.enter_context(
                jupyter_servers.jupyter_server(
                    folder,
                    python=kernel_environments.python_of(stack),
                    options=["--MappingKernelManager.default_kernel_name=remote"],
                    env={"JUPYTER_PATH": str(folder / "specs")},
                )
            )
        return self._servers[stack]

    def network(self, target: Target) -> TcpProxy:
        """What lies between a target and its server."""
        if target not in self._networks:
            server = self.server(target.stack)
            self._networks[target] = self._ends.enter_context(TcpProxy(server.port, delay_s=target.delay_s))
        return self._networks[target]

    def _connect(self, target: Target, runtime_dir: Path) -> None:
        if runtime_dir.exists():
            return
        url = f"http://127.0.0.1:{self.network(target).port}"  # before it: a stack may be missing
        runtime_dir.mkdir(mode=0o700)
        harness.run(
            [
                *(sys.executable, "-m", "colab_kernel", "connect", url, "--token", jupyter_servers.TOKEN),
                *("--local-root", self.local_root, "--remote-root", self.server(target.stack).root),
            ],
            env={"JUPYTER_RUNTIME_DIR": str(runtime_dir)},
        )
