"""What clients of automerge-repo say on the wire, read and written in pure Python.

The hub lets unmodified ``@automerge/automerge-repo`` clients edit chosen documents (``server/opendoor``). Two formats
lie within each other: messages between repositories (``messages``, in CBOR: ``cbor``), and in some of them a message of
Automerge's sync protocol (``sync``, ``bloom``), which ``peer`` answers. What a client sends is hostile until read here:
the native library's own reader of sync messages can be made to ask for gigabytes, and is never called. The changes
within are handed on as bytes, to be screened like any other.
"""
