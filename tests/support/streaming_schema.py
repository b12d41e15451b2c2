"""The messages of NATS Streaming as the `protobuf` package has them, so that nothing here shares our own codec."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The official schema (protocol.proto, package pb) of what a publisher and its server exchange: (name, number, type).
SCHEMA = {
    "ConnectRequest": (
        ("clientID", 1, "string"),
        ("heartbeatInbox", 2, "string"),
        ("protocol", 3, "int32"),
        ("connID", 4, "bytes"),
        ("pingInterval", 5, "int32"),
        ("pingMaxOut", 6, "int32"),
    ),
    "ConnectResponse": (
        ("pubPrefix", 1, "string"),
        ("subRequests", 2, "string"),
        ("unsubRequests", 3, "string"),
        ("closeRequests", 4, "string"),
        ("error", 5, "string"),
        ("subCloseRequests", 6, "string"),
        ("pingRequests", 7, "string"),
        ("pingInterval", 8, "int32"),
        ("pingMaxOut", 9, "int32"),
        ("protocol", 10, "int32"),
        ("publicKey", 100, "string"),
    ),
    "PubMsg": (
        ("clientID", 1, "string"),
        ("guid", 2, "string"),
        ("subject", 3, "string"),
        ("reply", 4, "string"),
        ("data", 5, "bytes"),
        ("connID", 6, "bytes"),
        ("sha256", 10, "bytes"),
    ),
    "PubAck": (("guid", 1, "string"), ("error", 2, "string")),
    "CloseRequest": (("clientID", 1, "string"),),
    "CloseResponse": (("error", 1, "string"),),
}
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
}


def _messages():
    file = descriptor_pb2.FileDescriptorProto(name="stan.proto", package="pb", syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(
                name=field,
                number=number,
                type=_TYPES[kind],
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pb.{name}")) for name in SCHEMA}


MESSAGES = _messages()
