"""The floor for Python: the NATS protocol over a plain socket, in three round trips, without any library."""

import os
import socket
from urllib.parse import urlsplit

url = urlsplit(os.environ["NATS_URL"])
headers = f"NATS/1.0\r\nNats-Msg-Id: {os.environ['MSG_ID']}\r\n\r\n".encode()
payload = b'{"trigger":"update"}'
with socket.create_connection((url.hostname, url.port)) as connection:
    answers = connection.makefile("rb")
    answers.readline()  # INFO
    connection.sendall(
        b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.floor 1\r\n'
        b"HPUB %s _INBOX.floor %d %d\r\n"
        % (os.environ["SUBJECT"].encode(), len(headers), len(headers) + len(payload))
        + headers
        + payload
        + b"\r\n"
    )
    size = int(answers.readline().split()[-1])
    answer = answers.read(size)
if b'"error"' in answer or b'"seq"' not in answer:
    raise SystemExit(answer.decode())
print(answer.decode())
