# SPDX-License-Identifier: Apache-2.0
"""How processes end: workers, and the command line."""

DONE = 0
FAILED = 1
# Bad arguments, a bad spec, bad data: nothing that a second try would change.
REFUSED = 2
# Somebody alive has the job.
OWNED = 3
# The results cannot be written.
DISK = 74
# Asked to stop; what was done is saved, and the same command goes on.
PREEMPTED = 75
INTERRUPTED = 130
# Whoever read our output has gone: what a shell shows for SIGPIPE.
PIPE_CLOSED = 141
