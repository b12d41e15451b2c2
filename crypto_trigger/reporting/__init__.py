"""What a run came to, and everyone who is told.

`report.Report` is the frozen result of a run. `words` turns it into a line and a JSON object, `terminal` prints it,
`report_file`, `metrics` and `ping` pass it on.
"""
