"""Every bound in one place. Sizes are bytes, times are seconds unless the name says otherwise.

A bound is part of the protocol: raising one is compatible, lowering one needs a new protocol version.
"""

# The log
ENTRY_BYTES = 16 * 1024  # one entry, canonical
BODY_BYTES = 256 * 1024  # one body beside an entry
COMMIT_ENTRIES = 512  # entries under one checkpoint
BATCH_ENTRIES = 512  # entries in one upload
BATCH_BYTES = 4 * 1024 * 1024  # and their bytes, bodies included

# The link
MESSAGE_BYTES = 8 * 1024 * 1024  # one WebSocket message
SEND_QUEUE = 64  # messages waiting for one connection; a slower client is dropped
HANDSHAKE_SECONDS = 10
HEARTBEAT_SECONDS = 20
CLOCK_SKEW_SECONDS = 300  # between hub and device, at the handshake
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MOST_SECONDS = 60.0

# Intake
CSV_BYTES = 64 * 1024 * 1024
CSV_ROWS = 100_000
CSV_COLUMNS = 200
FIELD_CHARS = 8_000  # one cell

# Releases
RELEASE_FILE_BYTES = 8 * 1024 * 1024  # policy, playbook, prompt; models are not held to this
PLAYBOOK_STEPS = 64

# Plans
REASON_CHARS = 300
SOURCES = 12
