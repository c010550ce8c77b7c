"""What the first link brings: all that the relay must know of the runtime at its other end."""

from __future__ import annotations

from dataclasses import dataclass

from colab_kernel.path_mapping import PathMapping

KEPT_MESSAGES = 100_000
"""Of output, over there, for each websocket that does not keep up; about 1 kB each."""

KEEP_EVERY_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How to deal with one runtime.

    Attributes:
        max_message_bytes: what it takes in one message.
        mappings: folders that are here and there.
        folders: where the kernel shall work over there; the first that exists.
    """

    max_message_bytes: int
    mappings: tuple[PathMapping, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def startup_code(self) -> str:
        """What the kernel runs first: it goes into its folder, keeps its output, and avoids a deadlock.

        A kernel drops what it prints beyond 1,000 messages that its server has not yet taken. Here it keeps
        KEPT_MESSAGES of them: with 30,000 flushed lines for a client that slept meanwhile, 6,991 arrived
        before and all of them since (ipykernel 7.4, measured 2026-11). libzmq gives a new limit to the pipes
        that there are, and to those of later connections the one from before `bind`: so it is set again and
        again, in the thread that owns the socket.
        Source: https://libzmq.readthedocs.io/en/latest/zmq_setsockopt.html (ZMQ_SNDHWM);
        https://github.com/zeromq/libzmq/blob/v4.3.5/src/socket_base.cpp (update_pipe_options)

        pyzmq starts a thread with the first message of 64 KB and waits for it. If that happens when a
        breakpoint is hit, debugpy stops the new thread with the others, and the kernel is dead. Here the
        thread is started early and named to debugpy as one to leave alone.
        Source: seen in a stack dump of bare ipykernel 6.17.1, 2 of 49 runs with a flood of output before a
        breakpoint, 2026-11; zmq/utils/garbage.py (GarbageCollector.start) in pyzmq 26 and 27
        """
        return (
            "def _colab_kernel_begin(folders):\n"
            "    import os\n"
            "    try:\n"
            "        from zmq.utils.garbage import gc\n"
            "        gc.store(b'')\n"
            "        gc.thread.pydev_do_not_trace = gc.thread.is_pydev_daemon_thread = True\n"
            "    except Exception:\n"
            "        pass\n"
            "    try:\n"
            "        from tornado.ioloop import PeriodicCallback\n"
            "        thread = get_ipython().kernel.iopub_thread\n"
            "        def keep():\n"
            f"            thread.socket.sndhwm = {KEPT_MESSAGES}\n"
            "        def begin():\n"
            "            keep()\n"
            f"            PeriodicCallback(keep, {KEEP_EVERY_MS}).start()\n"
            "        thread.io_loop.add_callback(begin)\n"
            "    except Exception:\n"
            "        pass\n"
            "    for folder in folders:\n"
            "        if os.path.isdir(folder):\n"
            "            os.chdir(folder)\n"
            "            break\n"
            f"_colab_kernel_begin({list(self.folders)!r})\n"
            "del _colab_kernel_begin\n"
        )
