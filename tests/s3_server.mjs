// An S3 server for one scenario: node tests/s3_server.mjs FOLDER DATA
// FOLDER is what tools/s3_server/fetch.sh prints. It has one bucket, "cache", and one pair of keys, S3RVER and S3RVER.
// Prints its port when it listens; ends with its standard input.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import path from "node:path";

const [folder, data] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "x.js"));
const S3rver = require("@20minutes/s3rver");
mkdirSync(data, { recursive: true });
const server = new S3rver({
    port: 0,
    address: "127.0.0.1",
    silent: true,
    directory: data,
    configureBuckets: [{ name: "cache" }],
});
const { port } = await server.run();
console.log(port);
process.stdin.on("end", () => process.exit(0)).resume();
