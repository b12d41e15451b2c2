// An API server on JetStream with `@nats-io/jetstream` 3.x and a durable consumer: prints each message it can parse, a
// JSON object a line. Arguments: URL, stream, subject, durable name, how many messages to wait for.
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [servers, stream, subject, durable, count] = process.argv.slice(2);
const connection = await connect({ servers });
const manager = await jetstreamManager(connection);
await manager.consumers.add(stream, {
  durable_name: durable,
  ack_policy: AckPolicy.Explicit,
  filter_subject: subject,
});
console.log(JSON.stringify({ ready: true }));
if (Number(count) > 0) {
  const consumer = await jetstream(connection).consumers.get(stream, durable);
  const messages = await consumer.consume();
  let left = Number(count);
  for await (const message of messages) {
    console.log(JSON.stringify({ sequence: message.seq, body: message.json(), msgId: message.headers?.get("Nats-Msg-Id") }));
    // Acknowledged for good: a plain ack may still be on its way when the connection closes.
    await message.ackAck();
    left -= 1;
    if (left === 0) break;
  }
}
await connection.close();
