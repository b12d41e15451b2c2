"""The codec of NATS Streaming's messages, held against frames of a real client and server, and against `protobuf`."""

import random
from dataclasses import asdict, astuple

import pytest
from google.protobuf.message import DecodeError
from support.streaming_schema import MESSAGES, SCHEMA

from crypto_trigger.brokers import streaming_wire
from crypto_trigger.brokers.streaming_wire import (
    CloseRequest,
    CloseResponse,
    ConnectRequest,
    ConnectResponse,
    Malformed,
    PubAck,
    PubMsg,
)

# What node-nats-streaming 0.3.2 and nats-streaming-server 0.25.6 said to each other.
FRAMES = {
    "connect-request": (
        (
            "0a0d776f726b65722d736572766572121d5f494e424f582e5442415a38314d36344a4f4f55394c50455036304c42180122165442415a3831"
            "4d36344a4f4f55394c5045503630575028053003"
        ),
        ConnectRequest(
            client_id="worker-server",
            heartbeat_inbox="_INBOX.TBAZ81M64JOOU9LPEP60LB",
            protocol=1,
            conn_id=b"TBAZ81M64JOOU9LPEP60WP",
            ping_interval=5,
            ping_max_out=3,
        ),
    ),
    "connect-response": (
        (
            "0a165f5354414e2e7075622e63727970746f2d737461747312165f5354414e2e7375622e63727970746f2d73746174731a185f5354414e2e"
            "756e7375622e63727970746f2d737461747322185f5354414e2e636c6f73652e63727970746f2d7374617473321b5f5354414e2e73756263"
            "6c6f73652e63727970746f2d73746174733a215f5354414e2e646973636f7665722e63727970746f2d73746174732e70696e677340054803"
            "5001"
        ),
        ConnectResponse(
            pub_prefix="_STAN.pub.crypto-stats",
            sub_requests="_STAN.sub.crypto-stats",
            unsub_requests="_STAN.unsub.crypto-stats",
            close_requests="_STAN.close.crypto-stats",
            sub_close_requests="_STAN.subclose.crypto-stats",
            ping_requests="_STAN.discover.crypto-stats.pings",
            ping_interval=5,
            ping_max_out=3,
            protocol=1,
        ),
    ),
    "pub-msg": (
        (
            "0a0d776f726b65722d73657276657212165442415a38314d36344a4f4f55394c504550363144531a0d63727970746f2d7570646174652a14"
            "7b2274726967676572223a22757064617465227d32165442415a38314d36344a4f4f55394c50455036305750"
        ),
        PubMsg(
            client_id="worker-server",
            guid="TBAZ81M64JOOU9LPEP61DS",
            subject="crypto-update",
            data=b'{"trigger":"update"}',
            conn_id=b"TBAZ81M64JOOU9LPEP60WP",
        ),
    ),
    "pub-ack": ("0a165442415a38314d36344a4f4f55394c50455036314453", PubAck(guid="TBAZ81M64JOOU9LPEP61DS")),
    "close-request": ("0a0d776f726b65722d736572766572", CloseRequest(client_id="worker-server")),
    "close-response": ("", CloseResponse()),
}
INT32 = (0, 1, 127, 128, 5, 2**31 - 1, -1, -(2**31))


@pytest.mark.parametrize(("frame", "message"), FRAMES.values(), ids=FRAMES)
def test_the_frames_of_the_real_thing(frame, message):
    assert message.encode().hex() == frame
    assert type(message).decode(bytes.fromhex(frame)) == message


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


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a", id="no length"),
        pytest.param(b"\x0a\x05abcd", id="a byte is missing"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="an absurd length"),
        pytest.param(b"\x7d123", id="half a fixed32"),
        pytest.param(b"\x79" + b"1234567", id="half a fixed64"),
        pytest.param(b"\x80", id="half a key"),
        pytest.param(b"\x02\x00", id="field number 0"),
        pytest.param(b"\x82\x80\x80\x80\x10\x00", id="a field number of 2^29"),
        pytest.param(b"\x78" + b"\xff" * 10 + b"\x01", id="a varint of 11 bytes"),
        pytest.param(b"\x78" + b"\xff" * 9 + b"\x02", id="a varint of 65 bits"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0f", id="wire type 7"),
        pytest.param(b"\x0a\x01\xff", id="not UTF-8"),
        pytest.param(b"\x08\x01", id="a number for a text"),
        pytest.param(b"\x0d1234", id="a fixed32 for a text"),
    ],
)
def test_what_is_malformed_is_refused(data):
    with pytest.raises(Malformed):
        PubAck.decode(data)


def test_text_for_a_number_is_refused():
    with pytest.raises(Malformed):
        ConnectResponse.decode(b"\x42\x01a")


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_a_number_that_is_no_int32_is_not_encoded(value):
    with pytest.raises(ValueError, match="is not an int32"):
        ConnectRequest(protocol=value).encode()


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
