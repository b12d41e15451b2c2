// The worker that crypto-trigger replaces: publishes the trigger at once, says so, and stays connected until SIGTERM.
// Arguments: URL, cluster, client ID, channel.
import stan from "node-nats-streaming";

const [url, cluster, client, channel] = process.argv.slice(2);
const connection = stan.connect(cluster, client, { url });
connection.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
connection.on("connect", () => {
  connection.publish(channel, JSON.stringify({ trigger: "update" }), (error, guid) => {
    console.log(JSON.stringify(error ? { error: String(error) } : { published: guid }));
  });
});
connection.on("close", () => process.exit(0));
process.once("SIGTERM", () => connection.close());
