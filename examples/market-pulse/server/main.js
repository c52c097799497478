// Start, signals, stop.

import http from 'node:http';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCache } from './cache.js';
import { ConfigError, readConfig } from './config.js';
import { createDatabase } from './database.js';
import { createHealth } from './health.js';
import { createApp } from './http.js';
import { createLog } from './log.js';
import { createMetrics } from './metrics.js';
import { createMarket } from './providers.js';
import { createQuotes } from './quotes.js';
import { createStatic } from './static.js';
import { createStream } from './stream.js';

const EXIT_CONFIG = 78; // EX_CONFIG of sysexits.h
const LINGER_MS = 250; // after the listener closed, for requests already on their way over idle connections
const PRUNE_EVERY_MS = 3600_000;

process.stdout.on('error', () => {}); // whoever reads the log may go away; the application stays

const config = loadConfig();
const log = createLog(config);
process.on('uncaughtException', (error) => {
  log.error('unexpected error, exiting', { error, stack: error.stack });
  process.exit(1);
});

const metrics = createMetrics(config);
const database = createDatabase(config, log);
const cache = createCache(config, metrics, log);
const market = createMarket(config, metrics, log);
const quotes = createQuotes({ database, cache, market, metrics, log });
const health = createHealth({ database, cache, market });
const stream = createStream({ config, quotes, metrics, log });
const files = createStatic(fileURLToPath(new URL('../dist', import.meta.url)));
const app = createApp({ config, database, quotes, health, metrics, log, files, started: new Date().toISOString() });

let stopping = false;
const unanswered = new Set();
const server = http.createServer({
  keepAliveTimeout: 75_000, // longer than the proxy's, so that only the proxy ends an idle connection
  headersTimeout: 10_000,
  requestTimeout: 15_000,
});
server.on('request', (req, res) => {
  if (stopping) res.setHeader('connection', 'close');
  unanswered.add(res);
  res.on('close', () => unanswered.delete(res));
  app(req, res);
});
server.on('upgrade', stream.upgrade);
server.on('error', (error) => {
  log.error(`cannot listen on ${config.host}:${config.port}; set HOST and PORT to a free address`, { error });
  process.exit(1);
});
server.listen(config.port, config.host, 1024, () => {
  const { address, port } = server.address();
  log.info('listening', { address, port, version: config.version, colour: config.colour, pid: process.pid });
});

const pruning = setInterval(() => {
  database.prune().catch((error) => log.warn('old rows could not be removed', { error }));
}, PRUNE_EVERY_MS);

process.on('SIGTERM', stop);
process.on('SIGINT', stop);
process.on('SIGUSR2', async () => {
  log.info('draining price streams', { open: stream.count(), spread_ms: config.closeSpreadMs });
  await stream.drain();
});

await database.prepare();
await health.start();
if (!stopping) log.info('ready', { boot_ms: Math.round(performance.now()) });

/** Answers what has been asked, says goodbye to the streams, lets go of everything, exits 0. */
async function stop(signal) {
  if (stopping) return;
  stopping = true;
  log.info('stopping', { signal, unanswered: unanswered.size, streams: stream.count() });
  setTimeout(() => {
    log.error('stop took too long, exiting', { unanswered: unanswered.size, streams: stream.count() });
    process.exit(1);
  }, config.stopTimeoutMs).unref();

  health.stop();
  clearInterval(pruning);
  const closed = new Promise((resolve) => { server.once('close', resolve); });
  // Only the listener: http's own close() would cut idle connections on which a request may be arriving.
  net.Server.prototype.close.call(server);
  for (const res of unanswered) if (!res.headersSent) res.setHeader('connection', 'close');
  await Promise.all([stream.stop(), sleep(LINGER_MS)]);
  server.closeIdleConnections();
  await closed;
  cache.end();
  await database.end();
  log.info('stopped');
  process.exit(0);
}

function loadConfig() {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const early = createLog({ logLevel: 'info', release: process.env.HOLDFAST_RELEASE, instance: process.env.HOLDFAST_INSTANCE });
    for (const problem of error.problems) early.error(problem);
    process.exit(EXIT_CONFIG);
  }
}
