"""One truthful connection to one NATS server: addresses, credentials, TLS, and what each fault means.

`servers.Servers` connects to the first server of the list that accepts us, `connection.Connection` limits all waiting,
and `faults` has the table of faults: what each exception of nats-py and each answer of a server means.
"""
