"""What the tests share: servers, relays, processes, streams, certificates."""
