"""The proxy kernel: a local process that a frontend starts like any kernel, and that relays to a remote one.

    frontend ⇄ ZMQ ⇄ proxy kernel ⇄ websocket ⇄ Jupyter Server ⇄ remote kernel

What passes through it passes unchanged: a message's header, parent header, metadata, content and buffers are
the bytes that arrived. Its own are the envelope (identities, signature, framing) and the few messages that it
makes itself.
"""
