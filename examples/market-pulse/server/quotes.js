// A quote comes from the cache, else from a provider (once, however many ask), else it is the last one known.

const RETRY_MS = 2000; // after every provider failed, how long the stale quote is served without asking again
const BACKFILL_RETRY_MS = 60_000;
const KNOWN_FOR_MS = 5 * 60_000; // how long this process trusts its own memory of the last price

export function createQuotes({ database, cache, market, metrics, log }) {
  const inFlight = new Map(); // symbol -> promise; all these maps are bounded by the symbol catalogue
  const known = new Map(); // symbol -> {quote, at}
  const failedUntil = new Map();
  const backfilled = new Map(); // symbol -> when to ask again

  async function lastKnown(symbol) {
    const mine = known.get(symbol);
    if (mine && Date.now() - mine.at < KNOWN_FOR_MS) return mine.quote;
    try {
      return (await database.lastQuote(symbol)) ?? mine?.quote;
    } catch (error) {
      log.warn('the last quote could not be read', { symbol, error });
      return mine?.quote;
    }
  }

  async function fetchQuote(symbol) {
    const last = await lastKnown(symbol);
    const stale = last ? { ...last, stale: true } : null;
    if (failedUntil.get(symbol) > Date.now()) return stale;
    try {
      const quote = await market.quote(symbol, last?.price);
      known.set(symbol, { quote, at: Date.now() });
      await Promise.all([
        cache.set(quote),
        database.saveQuotes([quote]).catch((error) => log.warn('a quote could not be stored', { symbol, error })),
      ]);
      return quote;
    } catch (error) {
      failedUntil.set(symbol, Date.now() + RETRY_MS);
      log.warn('no provider has a quote', { symbol, error, stale_from: last?.time });
      return stale;
    }
  }

  function collapsed(symbol) {
    let promise = inFlight.get(symbol);
    if (!promise) {
      promise = fetchQuote(symbol).finally(() => inFlight.delete(symbol));
      inFlight.set(symbol, promise);
    }
    return promise;
  }

  return {
    /** One quote a symbol, in order; null where nothing is known. */
    async get(symbols) {
      const cached = await cache.getMany(symbols);
      const quotes = await Promise.all(symbols.map((symbol) => cached.get(symbol) ?? collapsed(symbol)));
      for (const quote of quotes) {
        metrics.quotes.inc({ freshness: !quote ? 'missing' : quote.stale ? 'stale' : 'fresh' });
      }
      return quotes;
    },

    /** Past prices, oldest first. A symbol new to the database gets its past from a provider. */
    async history(symbol, points) {
      const rows = await database.history(symbol, points);
      if (rows.length >= points / 2 || backfilled.get(symbol) > Date.now()) return rows;
      backfilled.set(symbol, Date.now() + BACKFILL_RETRY_MS);
      const past = await market.history(symbol, points);
      if (!past.length) return rows;
      await database.saveQuotes(past);
      return database.history(symbol, points);
    },
  };
}
