// Is this instance able to serve? Checked once a second in the background, so that asking costs nothing.

const EVERY_MS = 1000;
const TIMEOUT_MS = 1000;

export function createHealth({ database, cache, market }) {
  const starting = { status: 'failed', message: 'not checked yet' };
  let checks = { database: starting, redis: starting, providers: starting };
  let stopping = false;
  let timer;

  async function run(check, statusOnFailure) {
    const started = performance.now();
    const latency = () => Math.round((performance.now() - started) * 10) / 10;
    let timeout;
    try {
      const late = new Promise((_, reject) => {
        timeout = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
      });
      const message = await Promise.race([check(), late]);
      return { status: 'ok', latency_ms: latency(), message };
    } catch (error) {
      return { status: statusOnFailure, latency_ms: latency(), message: error.message || error.code };
    } finally {
      clearTimeout(timeout);
    }
  }

  // Judged by the requests users cause: a probe would eat into the quotas.
  function providers() {
    const states = market.states();
    const all = Object.values(states);
    const usable = all.filter((state) => state.usable).length;
    return {
      status: usable === all.length ? 'ok' : 'degraded',
      message: `${usable} of ${all.length} usable`,
      each: states,
    };
  }

  async function refresh() {
    const [db, redis] = await Promise.all([
      run(() => database.check(), 'failed'),
      run(() => cache.check(), 'degraded'), // the cache falls back to memory
    ]);
    checks = { database: db, redis, providers: providers() };
  }

  async function loop() {
    await refresh();
    if (!stopping) timer = setTimeout(loop, EVERY_MS);
  }

  return {
    refresh,
    start: loop,
    stop() {
      stopping = true;
      clearTimeout(timer);
    },
    report() {
      const states = Object.values(checks).map((check) => check.status);
      const status = stopping ? 'stopping'
        : states.includes('failed') ? 'not ready'
        : states.includes('degraded') ? 'degraded' : 'ready';
      return { ready: status === 'ready' || status === 'degraded', status, checks };
    },
  };
}
