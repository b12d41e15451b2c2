"""Nothing waits for ever: attempts, signals, slow readers, files, and certificates that do not verify.

`retry` tries something until it succeeds or the time is up, `signals` says what a signal does in each phase, `streams`
and `files` read and write with a limit.
"""
