// Node-RED without an editor and without sending anything anywhere; functions get the PostgreSQL client.
module.exports = {
  flowFile: process.env.PEER_FLOW,
  userDir: process.env.PEER_FOLDER,
  httpAdminRoot: false,
  httpNodeRoot: false,
  uiHost: "127.0.0.1",
  uiPort: Number(process.env.PEER_PORT),
  telemetry: { enabled: false },
  credentialSecret: false,
  diagnostics: { enabled: false },
  logging: { console: { level: "warn", metrics: false, audit: false } },
  // The cursor survives a restart; Node-RED writes its context down after this many seconds.
  contextStorage: {
    default: { module: "localfilesystem", config: { flushInterval: 1 } },
    memory: { module: "memory" },
  },
  functionGlobalContext: {
    pg: require(process.env.PEER_NODE_MODULES + "/pg"),
    env: process.env,
    // By the machine's monotonic clock, as the harness reads it.
    said: (word) => console.log(`peer ${word} ${Number(process.hrtime.bigint()) / 1e9}`),
  },
};
