// Quotes for CACHE_SECONDS in Redis, shared by all instances; in this process' memory while Redis is away.

import { Redis } from 'ioredis';

const PAUSE_MS = 1000; // after a failure, how long requests do not even try Redis

export function createCache({ redisUrl, cacheSeconds, environment }, metrics, log) {
  const prefix = `market-pulse:${environment}:quote:1:`; // the number changes with the format of the value
  const memory = new Map(); // symbol -> {quote, expires}; bounded by the symbol catalogue
  let pausedUntil = 0;
  let away = false;

  const redis = new Redis(redisUrl, {
    enableOfflineQueue: false, // a request never waits for Redis to come back
    maxRetriesPerRequest: 0,
    commandTimeout: 250,
    connectTimeout: 1000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 2000),
  });
  redis.on('error', (error) => lost(error));
  redis.on('ready', () => {
    if (away) log.info('redis is back');
    away = false;
    pausedUntil = 0;
  });

  function lost(error) {
    pausedUntil = Date.now() + PAUSE_MS;
    if (!away) log.warn('redis is away; quotes are cached in memory', { error });
    away = true;
  }

  const usable = () => redis.status === 'ready' && Date.now() >= pausedUntil;

  async function tryRedis(work) {
    if (!usable()) return undefined;
    try {
      const result = await work();
      if (away) log.info('redis is back');
      away = false;
      return result;
    } catch (error) {
      lost(error);
      return undefined;
    }
  }

  return {
    /** Returns a Map of the symbols that are cached. */
    async getMany(symbols) {
      const now = Date.now();
      const values = await tryRedis(() => redis.mget(symbols.map((symbol) => prefix + symbol)));
      const store = values ? 'redis' : 'memory';
      const found = new Map();
      symbols.forEach((symbol, i) => {
        const entry = values ? parse(values[i]) : memory.get(symbol);
        const hit = entry && entry.expires > now;
        metrics.cache.inc({ store, result: hit ? 'hit' : 'miss' });
        if (!hit) return;
        found.set(symbol, entry.quote);
        memory.set(symbol, entry);
      });
      return found;
    },

    async set(quote) {
      const entry = { quote, expires: Date.now() + cacheSeconds * 1000 };
      memory.set(quote.symbol, entry);
      await tryRedis(() => redis.set(prefix + quote.symbol, JSON.stringify(entry), 'PX', cacheSeconds * 1000));
    },

    async check() {
      if (redis.status !== 'ready') throw new Error(`connection is ${redis.status}; quotes are cached in memory`);
      await redis.ping();
      return 'answers';
    },

    end: () => redis.disconnect(),
  };
}

function parse(text) {
  try {
    return text && JSON.parse(text);
  } catch {
    return undefined; // written by something else; a miss
  }
}
