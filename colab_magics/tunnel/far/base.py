"""Runs over there, in the helper kernel: takes what a hand asks, calls the verb, sends back what it returns.

All of `far/` is sent as text and runs in one namespace, on whatever Python (3.9 or later) is there. A verb is
a function `(content, buffers) -> (content, buffers)`, registered by `@colab_far.verb`; what it raises goes
back as a sentence. `colab_far.tell` says something that nobody asked, from any thread.
"""


class ColabFar:
    def __init__(self):
        self.verbs = {}
        self.comm = None

    def verb(self, function):
        self.verbs[function.__name__] = function
        return function

    def opened(self, comm, message):
        self.comm = comm
        comm.on_msg(self.receive)

    def receive(self, message):
        data = message["content"]["data"]
        answer, buffers = {"number": data["number"]}, []
        try:
            answer["content"], buffers = self.verbs[data["verb"]](data["content"], message["buffers"])
        except OSError as error:
            answer["is_full"] = colab_is_full(error)
            answer["error"] = "%s: %s" % (error.filename, error.strerror) if error.filename else str(error)
        except Exception as error:
            answer["error"] = "%s: %s" % (type(error).__name__, error)
        self.comm.send(answer, buffers=buffers)

    def tell(self, content, buffers=()):
        self.comm.send({"number": None, "content": content}, buffers=list(buffers))


def colab_is_full(error):
    """Whether it says that there is no room left on a disk."""
    import errno

    return error.errno in (errno.ENOSPC, errno.EDQUOT)


colab_far = ColabFar()
get_ipython().kernel.comm_manager.register_target("colab", colab_far.opened)
