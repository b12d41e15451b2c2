// A durable subscriber of NATS Streaming, as the API server was: prints each message it can parse, a JSON object a line.
// Arguments: URL, cluster, client ID, channel, durable name, how many messages to wait for.
import stan from "node-nats-streaming";

const [url, cluster, client, channel, durable, count] = process.argv.slice(2);
const connection = stan.connect(cluster, client, { url });
connection.on("error", (error) => fail(error));
connection.on("connect", () => {
  const options = connection.subscriptionOptions().setDeliverAllAvailable().setDurableName(durable);
  const subscription = connection.subscribe(channel, options);
  let left = Number(count);
  subscription.on("error", (error) => fail(error));
  subscription.on("ready", () => {
    say({ ready: true });
    if (left === 0) connection.close();
  });
  subscription.on("message", (message) => {
    say({ sequence: message.getSequence(), body: JSON.parse(message.getData()) });
    left -= 1;
    // The client acknowledges by itself once this handler has returned.
    if (left === 0) setTimeout(() => connection.close(), 100);
  });
});
connection.on("close", () => process.exit(0));

function say(what) {
  console.log(JSON.stringify(what));
}

function fail(error) {
  console.error(String(error));
  process.exit(1);
}
