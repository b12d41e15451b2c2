// The worker that stays: node-cron fires every 15 minutes in a process that is there all day.
require("dotenv").config({ quiet: true });
const cron = require("node-cron");
const { connect, headers } = require("nats");

async function main() {
  const nc = await connect({ servers: process.env.NATS_URL, name: "worker-server" });
  const js = nc.jetstream();
  const send = async () => {
    const h = headers();
    h.set("Nats-Msg-Id", new Date().toISOString());
    const payload = Buffer.from(JSON.stringify({ trigger: "update" }));
    await js.publish(process.env.SUBJECT, payload, { headers: h });
  };
  cron.schedule("*/15 * * * *", send);
  await send();
  console.log("running");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
