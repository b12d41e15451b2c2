"""The codec of NATS Streaming's messages, held against that of `protobuf`, which reads the published schema."""

import random
from dataclasses import asdict, astuple

import pytest
from google.protobuf.message import DecodeError
from support.streaming_schema import MESSAGES, SCHEMA

from crypto_trigger.delivery import streaming_wire
from crypto_trigger.delivery.streaming_wire import Malformed, PubAck

INT32 = (0, 1, 127, 128, 5, 2**31 - 1, -1, -(2**31))


def test_there_are_these_six_messages_and_their_fields_are_the_schema_s():
    own = {
        name: [field.metadata["number"] for field in kind.__dataclass_fields__.values()]
        for name, kind in vars(streaming_wire).items()
        if isinstance(kind, type) and issubclass(kind, streaming_wire.Message) and kind is not streaming_wire.Message
    }
    assert own == {name: [number for _, number, _ in fields] for name, fields in SCHEMA.items()}


def random_value(rng, kind):
    if kind == "int32":
        return rng.choice((*INT32, rng.randint(-(2**31), 2**31 - 1)))
    # 127 and 128 bytes: where the length takes a second byte.
    size = rng.choice((0, 1, 2, 20, 127, 128, 300))
    if kind == "bytes":
        return rng.randbytes(size)
    return "".join(rng.choice("ab.-_ é€😀\x00") for _ in range(size))


@pytest.mark.parametrize("name", SCHEMA)
def test_random_messages_are_the_same_to_protobuf(name):
    rng = random.Random(name)
    ours, theirs = getattr(streaming_wire, name), MESSAGES[name]
    for _ in range(400):
        values = [random_value(rng, kind) if rng.random() < 0.7 else None for _, _, kind in SCHEMA[name]]
        given = {field: value for (field, _, _), value in zip(SCHEMA[name], values, strict=True) if value is not None}
        reference = theirs(**given)
        expected = tuple(getattr(reference, field) for field, _, _ in SCHEMA[name])
        own = ours(*expected)
        assert own.encode() == reference.SerializeToString()
        assert ours.decode(reference.SerializeToString()) == own
        parsed = theirs.FromString(own.encode())
        assert tuple(getattr(parsed, field) for field, _, _ in SCHEMA[name]) == astuple(own)


@pytest.mark.parametrize("name", SCHEMA)
def test_what_is_accepted_means_to_protobuf_what_it_means_to_us(name):
    """Damaged messages: we may refuse what protobuf forgives, and never read anything else than it does."""
    rng = random.Random(name)
    ours, theirs = getattr(streaming_wire, name), MESSAGES[name]
    accepted = refused = 0
    for _ in range(1500):
        given = {field: random_value(rng, kind) for field, _, kind in SCHEMA[name]}
        data = bytearray(theirs(**given).SerializeToString())
        for _ in range(rng.randint(1, 3)):
            position = rng.randrange(len(data) + 1)
            match rng.randrange(3):
                case 0:
                    data[position : position + 1] = rng.randbytes(1)
                case 1:
                    data[position:position] = rng.randbytes(rng.randint(1, 4))
                case 2:
                    del data[position:]
        try:
            own = ours.decode(bytes(data))
        except Malformed:
            refused += 1
            continue
        accepted += 1
        reference = theirs.FromString(bytes(data))
        assert tuple(asdict(own).values()) == tuple(getattr(reference, field) for field, _, _ in SCHEMA[name])
    assert accepted
    assert refused


def test_a_field_of_a_later_schema_is_skipped_and_the_last_of_two_counts():
    guid, other = b"\x0a\x01a", b"\x0a\x01b"
    later = b"\x78\x01" + b"\x7a\x02zz" + b"\x7d1234" + b"\x7912345678"
    assert MESSAGES["PubAck"].FromString(guid + later + other).guid == "b"
    assert PubAck.decode(guid + later + other) == PubAck(guid="b")


def test_what_protobuf_refuses_we_refuse():
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        data = rng.randbytes(rng.randint(1, 12))
        try:
            MESSAGES["PubAck"].FromString(data)
        except DecodeError:
            refused += 1
            with pytest.raises(Malformed):
                PubAck.decode(data)
    assert refused > 1000
