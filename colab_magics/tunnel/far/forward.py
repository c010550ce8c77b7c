"""Runs over there: TCP connections to ports of this machine's loopback interface, carried by the hand.

Each has a number of the other side's. Bytes go either way in pieces, and each side says how many it has
passed on, so that neither holds more than `window` bytes of a connection. What is said here by itself:
`data`, `end` (the program here will send no more), `gone` (the connection is over), `passed` (on, so many).
"""

import collections
import socket
import threading
import time

COLAB_PIECE_BYTES = 256 * 1024
COLAB_TELLS_A_SECOND = 400
"""A plain Jupyter Server drops what is beyond 1,000 messages a second."""


class ColabPace:
    """Holds a thread back that says too much, all connections together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.left = COLAB_TELLS_A_SECOND
        self.at = time.monotonic()

    def wait(self):
        with self.lock:
            now = time.monotonic()
            more = (now - self.at) * COLAB_TELLS_A_SECOND
            self.left, self.at = min(self.left + more, COLAB_TELLS_A_SECOND), now
            self.left -= 1
            behind_s = max(0, -self.left / COLAB_TELLS_A_SECOND)
        time.sleep(behind_s)


class ColabConnection:
    """One connection: a thread for each direction."""

    def __init__(self, number, port, window):
        self.number, self.window = number, window
        self.socket = socket.socket()
        self.waiting = collections.deque()
        self.changed = threading.Condition()
        self.unpassed = self.untold = 0
        self.is_over = False
        colab_connections[number] = self
        threading.Thread(target=self.write, args=(port,), daemon=True).start()

    def say(self, what, buffers=(), **more):
        colab_pace.wait()
        colab_far.tell({"forward": what, "connection": self.number, **more}, buffers)

    def put(self, piece):
        """Bytes to be passed on; None: there will be no more of them."""
        with self.changed:
            self.waiting.append(piece)
            self.changed.notify_all()

    def passed(self, count):
        with self.changed:
            self.unpassed -= count
            self.changed.notify_all()

    def write(self, port):
        try:
            self.socket.connect(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.read, daemon=True).start()
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.waiting or self.is_over)
                    if self.is_over:
                        return
                    pieces = list(self.waiting)
                    self.waiting.clear()
                whole = b"".join(piece for piece in pieces if piece is not None)
                self.socket.sendall(whole)
                self.untold += len(whole)
                if self.untold >= self.window // 4:
                    self.say("passed", count=self.untold)
                    self.untold = 0
                if None in pieces:
                    self.socket.shutdown(socket.SHUT_WR)
                    return
        except OSError as error:
            self.end(error.strerror or str(error))

    def read(self):
        try:
            while True:
                piece = self.socket.recv(COLAB_PIECE_BYTES)
                if not piece:
                    self.say("end")
                    return
                with self.changed:
                    self.changed.wait_for(lambda: self.unpassed < self.window or self.is_over)
                    if self.is_over:
                        return
                    self.unpassed += len(piece)
                self.say("data", [piece])
        except OSError as error:
            self.end(error.strerror or str(error))

    def end(self, why=None):
        with self.changed:
            if self.is_over:
                return
            self.is_over = True
            self.changed.notify_all()
        colab_connections.pop(self.number, None)
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        if why is not None:
            self.say("gone", why=why)


colab_pace = ColabPace()
colab_connections = {}


@colab_far.verb
def forward_open(content, buffers):
    """Connect to a port of this machine."""
    ColabConnection(content["connection"], content["port"], content["window"])
    return {}, []


@colab_far.verb
def forward_data(content, buffers):
    """Bytes for a connection; without any: there will be no more."""
    connection = colab_connections.get(content["connection"])
    if connection is not None:
        connection.put(bytes(buffers[0]) if buffers else None)
    return {}, []


@colab_far.verb
def forward_passed(content, buffers):
    """The other side has passed bytes on."""
    connection = colab_connections.get(content["connection"])
    if connection is not None:
        connection.passed(content["count"])
    return {}, []


@colab_far.verb
def forward_close(content, buffers):
    """Nobody is there any more."""
    connection = colab_connections.get(content["connection"])
    if connection is not None:
        connection.end()
    return {}, []
