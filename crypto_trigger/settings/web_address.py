"""Parse the http or https URL of a monitor. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from crypto_trigger.settings.values import check_labels, host_of, is_host


def parse(raw: str) -> str:
    """Return an http or https URL as it is written. Characters that a URL cannot hold must be percent-encoded."""
    wanted = "must be a URL that begins with http:// or https://"
    if not (raw.isascii() and raw.isprintable()) or " " in raw:
        raise ValueError("holds a blank, a control character or a character that is not ASCII; percent-encode it")
    try:
        url = urlsplit(raw)
        host, port = host_of(url), url.port
    except ValueError:
        raise ValueError(f"has no valid host and port; it {wanted}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(wanted)
    if "${" in raw:
        raise ValueError("holds ${: variables are not expanded here, so write the value itself")
    if not host or port == 0 or not is_host(host):
        raise ValueError(f"has no valid host and port; it {wanted}")
    check_labels(host)
    if "#" in raw:
        raise ValueError("holds a #, and what follows it would not be sent; write it as %23, or leave it out")
    return raw
