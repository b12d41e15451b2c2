// One publish with the @nats-io packages, version 3.
import "dotenv/config";
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const nc = await connect({ servers: process.env.NATS_URL, name: "worker-server" });
const js = jetstream(nc);
const ack = await js.publish(process.env.SUBJECT, JSON.stringify({ trigger: "update" }), {
  msgID: process.env.MSG_ID,
});
console.log("published, sequence", ack.seq);
await nc.close();
