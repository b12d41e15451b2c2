"""What only several settings together can get wrong. Pure: values in, complaints out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from crypto_trigger import values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crypto_trigger.setting import Source


class Complaint(NamedTuple):
    """What is wrong with the value of one setting."""

    attribute: str
    what: str


def check(known: Mapping[str, Any], sources: Mapping[str, Source]) -> Iterator[Complaint]:
    """Yield what is wrong, a complaint for each setting at most.

    `known` holds each setting's value by attribute, None where it is not set or is wrong by itself; `sources` tells
    which of the two.
    """
    for short, long in (("give_up_after", "every"), ("early", "every")):
        if None not in (known[short], known[long]) and known[short] >= known[long]:
            yield Complaint(short, f"must be shorter than {_named(sources[long])}")
    base, most = known["backoff_base"], known["backoff_max"]
    if None not in (base, most) and base > most:
        yield Complaint("backoff_base", f"must not be longer than {_named(sources['backoff_max'])}")
    yield from _check_delivery(known)
    # Of the password and its file the one that is set.
    password = "password_file" if sources["password_file"].raw is not None else "password"
    for one, needed in (("cert", "key"), ("key", "cert"), (password, "user")):
        if known[one] is not None and sources[needed].raw is None:
            yield Complaint(one, f"needs {sources[needed].setting.variable} beside it")


def _named(source: Source) -> str:
    return f"{source.setting.variable} '{source.shown}' (from {source.origin})"


def _check_delivery(known: Mapping[str, Any]) -> Iterator[Complaint]:
    """Yield what a delivery asks of other settings."""
    delivery = known["delivery"]
    if delivery not in (values.Delivery.CORE, None) and known["require_subscriber"]:
        yield Complaint(
            "require_subscriber",
            f"needs CRYPTO_TRIGGER_DELIVERY=core; {delivery} stores the trigger for subscribers to come",
        )
    if delivery is not values.Delivery.STREAMING:
        return
    for attribute, parse in (
        ("client_id", values.check_client_id),
        ("cluster_id", values.name),
        ("subject", values.check_channel),
    ):
        if known[attribute] is not None:
            try:
                parse(known[attribute])
            except ValueError as error:
                yield Complaint(attribute, str(error))
