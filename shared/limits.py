"""Every bound in one place. Sizes are bytes, times are seconds unless the name says otherwise.

A bound is part of the protocol: raising one is compatible, lowering one needs a new protocol version.
"""

# The log
ENTRY_BYTES = 16 * 1024  # one entry, canonical
BODY_BYTES = 256 * 1024  # one body beside an entry
COMMIT_ENTRIES = 511  # entries appended under one checkpoint; one more, clock.stepped, may be put before them
BATCH_ENTRIES = 512  # entries in one upload
BATCH_BYTES = 4 * 1024 * 1024  # and their bytes, bodies included; so too of one commit, which is never split

# The link
MESSAGE_BYTES = 10 * 1024 * 1024  # one WebSocket message: a batch of nothing but quotes doubles when it is quoted
SPREAD_MS_MOST = 60_000  # longest that a notice may ask an agent to wait before it pulls
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
HEADING_CHARS = 200  # the name of a column
ROW_BYTES = 120 * 1024  # one row's inputs, canonical

# Releases
RELEASE_FILE_BYTES = 8 * 1024 * 1024  # policy, playbook, prompt; models are not held to this
MODEL_CHUNK_BYTES = 1024 * 1024  # of a model's file, hashed by itself; part of the form of a chunk list
SMOKE_CASES = 32  # of one model
EXPIRY_WARN_DAYS = (30, 7)  # before what people sign ends, they are told, and told again
PLAYBOOK_STEPS = 64  # those within others included
PLAYBOOK_DEPTH = 4  # steps within steps
POLICY_RULE_OPERATORS = 300  # operators and brackets in one rule; the native parser crashes on some thousands,
POLICY_RULE_NESTING = 32  # and on some hundred brackets within each other

# Models from devices near by
PEERS_OFFERED = 4  # to one device, for one model
PEER_TICKET_SECONDS = 600  # how long one is good
PEER_DOWNLOADS = 2  # at once from one device,
PEER_CONNECTIONS = 16  # and open connections, those included
PEER_HEAD_BYTES = 8 * 1024  # of a request
PEER_LEAST_BYTES_S = 64 * 1024  # slower, and either side gives up

# Replay
REPLAY_SAMPLE = 200  # runs of one device that a release is tried on at most,
DRIFT_SAMPLE = 25  # and those that the release in force is tried on from time to time
REPLAYS_WAITING = 8
ANSWERS_LOOKED_FOR = 200_000  # of the newest entries, those looked through for what people answered

# Stops
SWITCHES = 32  # playbooks and tools that are stopped at once; each takes some 300 bytes of one entry
SWITCH_NAME_CHARS = 100  # of what is stopped

# Runs
FOR_EACH_ITEMS = 1_000
ENDED_REMEMBERED = 1_000  # ended runs that an order may still take back, on their device
EVENT_DAYS = 30  # an event is remembered this long, for runs that will wait for it,
EVENTS_REMEMBERED = 50_000  # and so many of them; one takes some 300 bytes of memory
SOURCES_REMEMBERED = 10_000  # files that were read

# Plans
REASON_CHARS = 300
SOURCES = 12

# Expressions
EXPRESSION_CHARS = 2_000  # of one expression
EXPRESSION_BRACKETS = 24  # within each other; the native parser gives up at 48
EXPRESSION_DEPTH = 100  # operations within each other
EXPRESSION_LOOPS = 2  # all, exists, exists_one, filter and map within each other
EXPRESSION_PARTS = 64  # expressions in one value
EXPRESSION_PATTERN_CHARS = 200  # of matches
EXPRESSION_PATTERN_REPEATS = 1_000  # counted repetitions, multiplied
EXPRESSION_VALUE_DEPTH = 32  # lists and mappings within each other
EXPRESSION_INT = 2**63 - 1  # and its negative: the smallest 64-bit number has no positive, and CEL gets that wrong
EXPRESSION_WORK = 1_000_000  # units of about a tenth of a microsecond: copied values, visited operations

# Memory
MEMORY_BATCH = 512  # changes in one push
MEMORY_BATCH_BYTES = 2 * 1024 * 1024  # and their base64, or that of the records in one answer; one alone may have more
MEMORY_RECORDS = 1_024  # records in one answer
MEMORY_SCOPES = 256  # scopes that one device may have
MEMORY_ITEM_CHANGES = 20_000  # changes of one item,
MEMORY_ITEM_BYTES = 16 * 1024 * 1024  # and their bytes
MEMORY_ITEM_HEADS = 64  # changes of one item not merged yet; well below MEMORY_CHANGE_DEPS, so that one edit can
MEMORY_SCOPE_BYTES = 4 * 1024 * 1024 * 1024  # changes of one scope
MEMORY_IMPORT_BYTES = 8 * 1024 * 1024  # a file of items that is brought in at the console,
MEMORY_IMPORT_ITEMS = 5_000  # and its items

# Memory: one change of an item
MEMORY_CHANGE_BYTES = 1024 * 1024  # as it travels,
MEMORY_CHANGE_INFLATED = 4 * 1024 * 1024  # and when it is not deflated
MEMORY_CHANGE_OPS = 220_000  # a text of 100,000 letters taken out and another put in its place
MEMORY_CHANGE_NAMED = 1_000  # of them, those that are about a named field and not a letter of a text
MEMORY_CHANGE_ACTORS = 64  # others that it names
MEMORY_CHANGE_DEPS = 256  # changes that it follows directly
MEMORY_MESSAGE_BYTES = 1_000  # what its writer says of it
MEMORY_SCRATCH_BYTES = 768 * 1024 * 1024  # address space of the process that applies changes from elsewhere
MEMORY_SCRATCH_CPU_SECONDS = 5.0  # of a processor, for one item;
MEMORY_SCRATCH_SECONDS = 60.0  # and of the clock, where it hangs or the processor limit does not hold
MEMORY_SCRATCH_BATCH = 256  # items in one round,
MEMORY_SCRATCH_BATCH_BYTES = 8 * 1024 * 1024  # and their bytes
MEMORY_DOCUMENT_OPS = 2**30  # a document's last operation; Automerge's own end is at 2**32

# The open door: clients that speak the automerge-repo protocol
REPO_MESSAGE_BYTES = 4 * 1024 * 1024  # one message of a client
REPO_VALUES = 2_000  # values in one message, lists and mappings counted
REPO_DEPTH = 6  # lists and mappings within each other
REPO_NAME_CHARS = 256  # the name a client gives itself, or a document
REPO_HASHES = 20_000  # heads, or needed changes, named in one sync message
REPO_HAVES = 2  # Bloom filters in one sync message; clients send one
REPO_BLOOM_PROBES = 16
REPO_BLOOM_BITS = 64  # for one entry
REPO_CHANGES = 5_000  # in one sync message
REPO_PENDING = 1_000  # changes that wait for others they build on
REPO_PENDING_BYTES = 1024 * 1024
