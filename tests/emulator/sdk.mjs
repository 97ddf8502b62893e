// Sends one batch with AWS's SDK for JavaScript and prints what came of it as JSON.
// Arguments: node_modules folder, endpoint, region, the call's arguments as JSON. Credentials: environment.
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, endpoint, region, call] = process.argv.slice(2);
const { RUMClient, PutRumEventsCommand } = createRequire(join(modules, "_"))("@aws-sdk/client-rum");

const client = new RUMClient({ endpoint, region, maxAttempts: 1, disableHostPrefix: true });
const input = JSON.parse(call);
for (const event of input.RumEvents) event.timestamp = new Date(event.timestamp * 1000);
try {
  const answer = await client.send(new PutRumEventsCommand(input));
  console.log(JSON.stringify({ status: answer.$metadata.httpStatusCode }));
} catch (error) {
  console.log(JSON.stringify({ ...error, name: error.name, status: error.$metadata?.httpStatusCode }));
}
