"""Check the settings that depend on each other. Pure: values in, problems out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger import values
from crypto_trigger.setting import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crypto_trigger.setting import Source


_LONE_USER = (
    "needs NATS_PASSWORD or NATS_PASSWORD_FILE beside it: alone it is a token, which a list of processes would show; "
    "set NATS_TOKEN for that"
)
# The attribute of a setting, and what is wrong with its value.
Problem = tuple[str, str]


def check(known: Mapping[str, Any], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Yield the problems, at most one for each setting.

    `known` holds each setting's value by attribute: None where the setting is not set, or where its value is wrong by
    itself. `sources` tells these two cases apart.
    """
    for short, long in (("give_up_after", "every"), ("early", "every")):
        if None not in (known[short], known[long]) and known[short] >= known[long]:
            yield short, f"must be shorter than {_named(sources[long])}"
    base, most = known["backoff_base"], known["backoff_max"]
    if None not in (base, most) and base > most:
        yield "backoff_base", f"must not be longer than {_named(sources['backoff_max'])}"
    yield from _check_delivery(known)
    if sources["user"].layer == Layer.FLAG and {sources["password"].raw, sources["password_file"].raw} == {None}:
        yield "user", _LONE_USER
    # The password may come from its own variable or from a file.
    password = "password_file" if sources["password_file"].raw is not None else "password"
    needs = (("cert", "key"), ("key", "cert"), (password, "user"), ("ping_fail_url", "ping_url"))
    for one, needed in needs:
        if known[one] is not None and sources[needed].raw is None:
            yield one, f"needs {sources[needed].setting.variable} beside it"


def _named(source: Source) -> str:
    return f"{source.setting.variable} '{source.shown}' (from {source.origin})"


def _check_delivery(known: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of settings that do not fit the delivery."""
    delivery: values.Delivery | None = known["delivery"]
    match delivery:
        case values.Delivery.CORE | None:
            pass
        case values.Delivery.JETSTREAM:
            yield from _check_subscriber(known)
        case values.Delivery.STREAMING:
            yield from _check_subscriber(known)
            yield from _check_streaming_names(known)
        case _:
            assert_never(delivery)


def _check_subscriber(known: Mapping[str, Any]) -> Iterator[Problem]:
    if known["require_subscriber"]:
        yield (
            "require_subscriber",
            f"needs CRYPTO_TRIGGER_DELIVERY=core; {known['delivery']} stores the trigger for later subscribers",
        )


def _check_streaming_names(known: Mapping[str, Any]) -> Iterator[Problem]:
    for attribute, parse in (
        ("client_id", values.check_client_id),
        ("cluster_id", values.name),
        ("subject", values.check_channel),
    ):
        if known[attribute] is not None:
            try:
                parse(known[attribute])
            except ValueError as error:
                yield attribute, str(error)
