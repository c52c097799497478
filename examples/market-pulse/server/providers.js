// Market-data providers: asked in order, with key rotation, quotas, time limits and a circuit breaker each.
// A price that cannot be right is refused and the next provider asked.

const KEY_BENCH_MS = 10 * 60_000; // a refused key
const RETRY_AFTER_MS = 30_000; // a rate limit that does not say how long
const BREAKER_FAILURES = 3;
const BREAKER_OPEN_MS = 10_000;
const JUMP_MAX = 0.2; // against the last known price
const AGREE_WITHIN = 0.02; // two providers that say the same

const iso = (value) => new Date(value).toISOString();

/** How each provider is asked and what its answer looks like. */
export const ADAPTERS = {
  alpha: { // key in the query string, numbers as text under numbered names
    quote: (symbol, key) => ({ path: `/query?function=GLOBAL_QUOTE&symbol=${symbol}&apikey=${key}` }),
    read: ({ 'Global Quote': q }) => ({ price: Number(q['05. price']), currency: q['08. currency'], time: iso(q['07. time']) }),
    history: (symbol, key, points) => ({ path: `/query?function=TIME_SERIES&symbol=${symbol}&points=${points}&apikey=${key}` }),
    readHistory: (body) => Object.entries(body['Time Series'])
      .map(([time, row]) => ({ time: iso(time), price: Number(row['4. close']), currency: body['Meta Data'].currency })),
  },
  beta: { // key in a header, terse names, Unix seconds
    quote: (symbol, key) => ({ path: `/v3/quote/${symbol}`, headers: { 'x-api-key': key } }),
    read: (body) => ({ price: body.c, currency: body.cur, time: iso(body.t * 1000) }),
  },
  gamma: { // bearer token, nested, decimal as integer and scale
    quote: (symbol, key) => ({ path: `/markets/quotes?ticker=${symbol}`, headers: { authorization: `Bearer ${key}` } }),
    read: ({ data: [q] }) => ({ price: Number(q.last.amount) / 10 ** q.last.scale, currency: q.ccy, time: iso(q.last.at) }),
  },
};

class ProviderError extends Error {
  constructor(outcome, message) {
    super(message);
    this.outcome = outcome;
  }
}

function createProvider({ name, url, keys: secrets }, { timeoutMs, metrics, log }) {
  const adapter = ADAPTERS[name];
  const base = url.replace(/\/$/, '');
  const keys = secrets.map((secret, index) => ({ secret, index, until: 0 }));
  let turn = 0;
  let failures = 0;
  let openUntil = 0;
  let last = { message: 'not asked yet' };

  const usableKeys = () => keys.filter((key) => key.until <= Date.now());

  function succeeded(latencyMs) {
    if (failures >= BREAKER_FAILURES) log.info('provider is back', { provider: name });
    failures = 0;
    openUntil = 0;
    last = { ok: true, message: 'answers', latency_ms: latencyMs };
  }

  function failed(message) {
    failures += 1;
    last = { ok: false, message };
    if (failures < BREAKER_FAILURES) return;
    if (failures === BREAKER_FAILURES) log.warn('provider is left out for a while', { provider: name, reason: message });
    openUntil = Date.now() + BREAKER_OPEN_MS;
  }

  async function request(key, { path, headers }, signal) {
    let response;
    try {
      response = await fetch(base + path, { headers: { accept: 'application/json', ...headers }, signal });
      const left = response.headers.get('x-ratelimit-remaining');
      if (left !== null) metrics.quotaLeft.set({ provider: name, key: key.index }, Number(left));
      if (response.ok) return await response.json();
      await response.body?.cancel();
    } catch (error) {
      if (error.name === 'TimeoutError') throw new ProviderError('timeout', `no answer within ${timeoutMs} ms`);
      if (error instanceof SyntaxError) throw new ProviderError('malformed', 'answer is not JSON');
      throw new ProviderError('unavailable', error.cause?.code ?? error.message);
    }
    if (response.status === 429) {
      const seconds = Number(response.headers.get('retry-after'));
      key.until = Date.now() + (seconds > 0 ? seconds * 1000 : RETRY_AFTER_MS);
      metrics.quotaLeft.set({ provider: name, key: key.index }, 0);
      throw new ProviderError('rate_limited', 'quota is used up');
    }
    if (response.status === 401 || response.status === 403) {
      key.until = Date.now() + KEY_BENCH_MS;
      log.error('provider refuses a key; replace it', { provider: name, key: key.index });
      throw new ProviderError('unauthorised', 'key is refused');
    }
    if (response.status === 404) throw new ProviderError('unknown_symbol', 'symbol is unknown');
    throw new ProviderError('unavailable', `status ${response.status}`);
  }

  /** Asks with one key after another; `build(key)` is the request, `read(body)` takes the answer apart. */
  async function ask(build, read) {
    if (Date.now() < openUntil) throw new ProviderError('skipped', `left out after failures: ${last.message}`);
    if (failures >= BREAKER_FAILURES) openUntil = Date.now() + timeoutMs; // this call is the only trial
    const usable = usableKeys();
    turn += 1;
    const signal = AbortSignal.timeout(timeoutMs);
    let problem = new ProviderError('skipped', 'every key has used up its quota');
    for (let i = 0; i < usable.length; i += 1) {
      const key = usable[(turn + i) % usable.length];
      const started = performance.now();
      try {
        const body = await request(key, build(encodeURIComponent(key.secret)), signal);
        const latencyMs = performance.now() - started;
        metrics.providerSeconds.observe({ provider: name }, latencyMs / 1000);
        const result = readSafely(read, body);
        metrics.providerRequests.inc({ provider: name, outcome: 'ok' });
        succeeded(Math.round(latencyMs));
        return result;
      } catch (error) {
        problem = error;
        metrics.providerRequests.inc({ provider: name, outcome: error.outcome ?? 'error' });
        if (error.outcome === 'rate_limited' || error.outcome === 'unauthorised') continue;
        if (error.outcome !== 'unknown_symbol') failed(error.message);
        throw error;
      }
    }
    if (problem.outcome !== 'skipped') last = { ok: false, message: problem.message };
    throw problem;
  }

  return {
    name,
    quote: (symbol) => ask((key) => adapter.quote(symbol, key), (body) => ({ symbol, source: name, ...adapter.read(body) })),
    history: adapter.history && ((symbol, points) => ask(
      (key) => adapter.history(symbol, key, points),
      (body) => adapter.readHistory(body).map((row) => ({ symbol, source: name, ...row })))),
    /** A price was refused. It counts against the provider once another provider contradicts it. */
    implausible: (price) => {
      metrics.providerRequests.inc({ provider: name, outcome: 'implausible' });
      log.warn('provider gave a price that cannot be right', { provider: name, price });
    },
    distrust: () => failed('wrong prices'),
    state() {
      const open = Date.now() < openUntil;
      const left = usableKeys().length;
      return {
        ok: !open && left > 0 && last.ok !== false,
        usable: !open && left > 0,
        latency_ms: last.latency_ms,
        message: `${open ? 'left out: ' : ''}${last.message}; ${left} of ${keys.length} keys usable`,
      };
    },
  };
}

function readSafely(read, body) {
  try {
    return read(body);
  } catch {
    throw new ProviderError('malformed', 'answer has an unknown shape');
  }
}

export function createMarket(config, metrics, log, { timeoutMs = 800 } = {}) {
  const providers = config.providers.map((entry) => createProvider(entry, { timeoutMs, metrics, log }));
  const agree = (a, b) => Math.abs(a.price / b.price - 1) <= AGREE_WITHIN;

  return {
    /** A plausible quote from the first provider that has one; throws when none has. */
    async quote(symbol, lastPrice) {
      const reasons = [];
      const doubtful = []; // far from the last known price; right if another provider says the same
      for (const provider of providers) {
        try {
          const quote = await provider.quote(symbol);
          const possible = Number.isFinite(quote.price) && quote.price > 0;
          const jumps = possible && lastPrice && Math.abs(quote.price / lastPrice - 1) > JUMP_MAX;
          const confirmed = jumps && doubtful.some((other) => agree(other.quote, quote));
          if (possible && (!jumps || confirmed)) {
            doubtful.filter((other) => !agree(other.quote, quote)).forEach((other) => other.provider.distrust());
            return quote;
          }
          provider.implausible(quote.price);
          reasons.push(`${provider.name}: price ${quote.price} cannot be right`);
          if (possible) doubtful.push({ provider, quote });
          else provider.distrust();
        } catch (error) {
          reasons.push(`${provider.name}: ${error.message}`);
        }
      }
      throw new Error(reasons.join('; '));
    },

    /** Past quotes from the first provider that offers them; [] when none does. */
    async history(symbol, points) {
      for (const provider of providers.filter((each) => each.history)) {
        try {
          const rows = await provider.history(symbol, points);
          return rows.filter((row) => Number.isFinite(row.price) && row.price > 0);
        } catch (error) {
          log.info('no history from provider', { provider: provider.name, symbol, error });
        }
      }
      return [];
    },

    states: () => Object.fromEntries(providers.map((provider) => [provider.name, provider.state()])),
  };
}
