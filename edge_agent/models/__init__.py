"""The small models that run on the device: what is known, what is installed, and one worker that owns them.

    catalogue   the closed list of known models, with hashes
    fetch       bytes from a package or a path, checked before they count
    store       what is installed; nothing is loaded unless its hash is the registered one
    engine      the asyncio face (``Models``); it starts, watches and restarts the worker process
    fit         which of a release's models this computer runs
    worker      the one process that loads a language model (``language``) and an embedder (``embedder``, ``table``)
    probe       runs one token in a child process, for ``doctor``
    commands    ``outrider model``

The agent's own process imports only ``catalogue``, ``store``, ``messages`` and ``engine``: numpy and the runtimes stay
in the worker, so that an agent without a model stays small and a crash in native code costs one request, not the agent.
"""
