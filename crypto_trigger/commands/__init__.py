"""What a person types: the command line, each command, and how a run ends.

`entry.main` runs a command line and returns the exit status. Each command reads its options, does its work with the
other packages, and ends in `ending`, which tells everyone the result. This package may use all others.
"""
