"""Encode and decode the messages between a NATS Streaming client and its server, in proto3. Pure.

This is not a general protobuf library: the fields are singular strings, bytes and int32. The schema does not change any
more, because the server reached its end of life in 2023. Decoding is stricter than protobuf: it refuses a field of the
wrong wire type, groups, text that is not UTF-8, and field numbers of 2^29 and above. As in proto3, a field that is not
in the schema is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_NUMBER = "number"
_VARINT_BYTES = 10
# A byte of a varint has seven bits of the value, and this bit, which says that another byte follows.
_MORE = 0x80
_KEY_BITS, _INT_BITS, _VARINT_BITS = 32, 32, 64


class Malformed(ValueError):
    """The bytes are not a valid message of the expected kind."""


def _string(number: int) -> Any:  # noqa: ANN401 - as dataclasses.field is typed
    return field(default="", metadata={_NUMBER: number})


def _bytes(number: int) -> Any:  # noqa: ANN401 - as dataclasses.field is typed
    return field(default=b"", metadata={_NUMBER: number})


def _int32(number: int) -> Any:  # noqa: ANN401 - as dataclasses.field is typed
    return field(default=0, metadata={_NUMBER: number})


@dataclass(frozen=True, slots=True)
class Message:
    """A message. Its fields are those of the schema, in the same order. A field with its default value is not sent."""

    def encode(self) -> bytes:
        """Return the message as bytes. Raises ValueError for a number that is not an int32."""
        return b"".join(
            _encode(each.metadata[_NUMBER], value)
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the message in `data`. If a field occurs twice, the last one counts. Raises Malformed."""
        known = {each.metadata[_NUMBER]: each for each in fields(cls)}
        found: dict[str, str | bytes | int] = {}
        for number, value in _decode(data):
            if number in known:
                each = known[number]
                found[each.name] = _typed(value, type(each.default))
        return cls(**found)


@dataclass(frozen=True, slots=True)
class ConnectRequest(Message):
    """Registers a client ID. The server sends heartbeats to `heartbeat_inbox` to check that the client is alive."""

    client_id: str = _string(1)
    heartbeat_inbox: str = _string(2)
    protocol: int = _int32(3)
    conn_id: bytes = _bytes(4)
    ping_interval: int = _int32(5)
    ping_max_out: int = _int32(6)


@dataclass(frozen=True, slots=True)
class ConnectResponse(Message):
    """Answers with the subjects to publish, subscribe and close; or with an `error` and nothing else."""

    pub_prefix: str = _string(1)
    sub_requests: str = _string(2)
    unsub_requests: str = _string(3)
    close_requests: str = _string(4)
    error: str = _string(5)
    sub_close_requests: str = _string(6)
    ping_requests: str = _string(7)
    ping_interval: int = _int32(8)
    ping_max_out: int = _int32(9)
    protocol: int = _int32(10)
    public_key: str = _string(100)


@dataclass(frozen=True, slots=True)
class PubMsg(Message):
    """Publishes a message to the channel `subject`. The answer has the same `guid`."""

    client_id: str = _string(1)
    guid: str = _string(2)
    subject: str = _string(3)
    reply: str = _string(4)
    data: bytes = _bytes(5)
    conn_id: bytes = _bytes(6)
    sha256: bytes = _bytes(10)


@dataclass(frozen=True, slots=True)
class PubAck(Message):
    """Says that the message with that `guid` is stored. With an `error`, it is not stored, or may be."""

    guid: str = _string(1)
    error: str = _string(2)


@dataclass(frozen=True, slots=True)
class CloseRequest(Message):
    """Closes the registration of a client ID, whichever client it belongs to."""

    client_id: str = _string(1)


@dataclass(frozen=True, slots=True)
class CloseResponse(Message):
    """Says that the registration is closed. With an `error`, it is not."""

    error: str = _string(1)


def _encode(number: int, value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        if not -(1 << _INT_BITS - 1) <= value < 1 << _INT_BITS - 1:
            raise ValueError(f"{value} is not an int32")
        # A negative number is sent sign-extended to 64 bits.
        return _varint(number << 3 | _VARINT) + _varint(value % (1 << _VARINT_BITS))
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _LENGTH) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value % _MORE | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _decode(data: bytes) -> Iterator[tuple[int, bytes | int | None]]:
    """Yield each field's number and value: bytes, an unsigned number, or None for a wire type not in the schema."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if not number or key >> _KEY_BITS:
            raise Malformed("a field number out of range")
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _read_varint(data, position)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise Malformed(f"wire type {kind}")
        start, position = position, position + size
        if position > len(data):
            raise Malformed("it ends in the middle of a field")
        yield number, data[start:position] if kind == _LENGTH else None


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number that begins at `position`, and the position after it."""
    value = 0
    for index, byte in enumerate(data[position : position + _VARINT_BYTES]):
        value |= byte % _MORE << 7 * index
        if byte < _MORE:
            if value >> _VARINT_BITS:
                break
            return value, position + index + 1
    raise Malformed("a number that does not end, or is too large")


def _typed(value: bytes | int | None, kind: type) -> str | bytes | int:
    if kind is int and isinstance(value, int):
        low = value % (1 << _INT_BITS)
        return low - (1 << _INT_BITS) if low >> _INT_BITS - 1 else low
    if kind is bytes and isinstance(value, bytes):
        return value
    if kind is str and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Malformed("text that is not UTF-8") from None
    raise Malformed("a field of another type than the schema's")
