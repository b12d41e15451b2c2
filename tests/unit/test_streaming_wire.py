"""The codec of NATS Streaming's messages, held against frames of a real client and server."""

import pytest

from crypto_trigger.delivery.streaming_wire import (
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


@pytest.mark.parametrize(("frame", "message"), FRAMES.values(), ids=FRAMES)
def test_the_frames_of_the_real_thing(frame, message):
    assert message.encode().hex() == frame
    assert type(message).decode(bytes.fromhex(frame)) == message


def test_a_field_of_a_later_schema_is_skipped_and_the_last_of_two_counts():
    guid, other = b"\x0a\x01a", b"\x0a\x01b"
    later = b"\x78\x01" + b"\x7a\x02zz" + b"\x7d1234" + b"\x7912345678"
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
