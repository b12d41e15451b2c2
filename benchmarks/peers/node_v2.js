// One publish with the `nats` package, version 2.
require("dotenv").config({ quiet: true });
const { connect, headers } = require("nats");

async function main() {
  const nc = await connect({ servers: process.env.NATS_URL, name: "worker-server" });
  const h = headers();
  h.set("Nats-Msg-Id", process.env.MSG_ID);
  const payload = Buffer.from(JSON.stringify({ trigger: "update" }));
  const ack = await nc.jetstream().publish(process.env.SUBJECT, payload, { headers: h });
  console.log("published, sequence", ack.seq);
  await nc.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
