"""What the tests share: a look into streams, programs that may be missing, proxies and certificates."""
