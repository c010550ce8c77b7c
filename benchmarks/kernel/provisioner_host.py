"""jupyter-kernel-provisioner-proxy as its users run it: in the event loop of a kernel manager's process.

    python -m benchmarks.kernel.provisioner_host KERNELSPEC TOKEN

Says where the kernel's connection file is, then waits for the end of its stdin.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


async def main(kernel_name: str, token: str) -> None:
    import httpx
    from jupyter_client import AsyncKernelManager

    class Client(httpx.AsyncClient):
        """It knows no token; its HTTP client does, for the REST calls and for the websocket."""

        def __init__(self) -> None:
            super().__init__(headers={"Authorization": f"token {token}"}, timeout=60)

    httpx.AsyncClient = Client  # type: ignore[misc]
    manager = AsyncKernelManager(kernel_name=kernel_name)
    await manager.start_kernel(cwd=Path.cwd())
    print(manager.connection_file, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await manager.shutdown_kernel(now=True)
    os._exit(0)  # its tasks do not end


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
