// A subscriber of core NATS with `nats` 2.x: prints each message it can parse, a JSON object a line.
// Arguments: URL, subject, how many messages to wait for.
import { connect, JSONCodec } from "nats";

const [servers, subject, count] = process.argv.slice(2);
const connection = await connect({ servers });
const subscription = connection.subscribe(subject, { max: Number(count) });
await connection.flush();
console.log(JSON.stringify({ ready: true }));
const codec = JSONCodec();
for await (const message of subscription) {
  console.log(JSON.stringify({ body: codec.decode(message.data), msgId: message.headers?.get("Nats-Msg-Id") }));
}
await connection.close();
