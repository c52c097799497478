// Routes.

import express from 'express';
import { isSymbol, searchSymbols, symbolName } from './symbols.js';

const SLOW_MS = 1000;
const BODY_MAX = '16kb';
const SYMBOLS_MAX = 50;
const CONTENT_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
  "font-src 'self'", "manifest-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
].join('; ');

/** An answer other than success, as {error: {code, message}}. */
class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

const PARSER_ERRORS = {
  'entity.too.large': [413, 'too_large', `The body may have at most ${BODY_MAX}.`],
  'entity.parse.failed': [400, 'bad_json', 'The body is not a JSON object.'],
  'encoding.unsupported': [415, 'unsupported_encoding', 'The content encoding is not supported.'],
  'charset.unsupported': [415, 'unsupported_charset', 'The character set is not supported.'],
};

export function createApp({ config, database, quotes, health, metrics, log, files, started }) {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');

  app.use((req, res, next) => {
    const begun = performance.now();
    res.setHeader('x-release', config.release);
    res.setHeader('x-instance', config.instance);
    res.setHeader('x-content-type-options', 'nosniff');
    res.setHeader('referrer-policy', 'same-origin');
    res.setHeader('content-security-policy', CONTENT_POLICY);
    res.on('close', () => observe(req, res, performance.now() - begun));
    next();
  });

  function observe(req, res, ms) {
    const complete = res.writableFinished;
    const status = complete ? res.statusCode : 499; // the client went away
    const route = req.route?.path ?? (complete && status < 400 ? 'static' : 'none');
    metrics.requests.observe({ method: req.method, route, status }, ms / 1000);
    const fields = { method: req.method, path: req.path, status, ms: Math.round(ms) };
    if (status >= 500 && route !== '/readyz') log.error('request failed', fields);
    else if (ms > SLOW_MS) log.warn('request was slow', fields);
  }

  // One path, its methods; any other method is refused by name.
  function route(path, methods) {
    const handlers = app.route(path);
    for (const [method, chain] of Object.entries(methods)) handlers[method](...chain);
    const allow = Object.keys(methods).map((method) => method.toUpperCase());
    if (methods.get) allow.push('HEAD');
    handlers.all((req, res) => {
      res.setHeader('allow', allow.join(', '));
      throw new Refusal(405, 'method_not_allowed', `This address takes ${allow.join(', ')}.`);
    });
  }

  const json = [
    (req, res, next) => {
      if (!req.is('application/json')) throw new Refusal(415, 'not_json', 'Send JSON, with content-type application/json.');
      next();
    },
    express.json({ limit: BODY_MAX }),
  ];

  route('/livez', { get: [(req, res) => res.type('text').send('alive\n')] });
  route('/readyz', { get: [(req, res) => {
    const { ready, status, checks } = health.report();
    res.status(ready ? 200 : 503).setHeader('cache-control', 'no-store');
    if (req.query.verbose === undefined) res.type('text').send(`${status}\n`);
    else res.json({ status, release: config.release, instance: config.instance, checks });
  }] });
  route('/metrics', { get: [async (req, res) => {
    const text = await metrics.registry.metrics();
    res.setHeader('content-type', metrics.registry.contentType);
    res.end(text);
  }] });

  app.use('/api', (req, res, next) => {
    res.setHeader('cache-control', 'no-store');
    next();
  });
  route('/api/version', { get: [(req, res) => {
    const { name, version, release, instance, colour, environment } = config;
    res.json({ name, version, release, instance, colour, environment, started });
  }] });
  route('/api/symbols', { get: [(req, res) => {
    res.json({ symbols: searchSymbols(String(req.query.q ?? '').slice(0, 50)) });
  }] });

  route('/api/quotes', { get: [async (req, res) => {
    const symbols = symbolList(req.query.symbols);
    const found = await quotes.get(symbols);
    if (!found.some(Boolean)) throw new Refusal(503, 'no_quote', 'No provider has a quote just now, and none is known from before.');
    res.json({ quotes: found.filter(Boolean), missing: symbols.filter((_, i) => !found[i]) });
  }] });
  route('/api/quotes/:symbol/history', { get: [async (req, res) => {
    const symbol = knownSymbol(req.params.symbol);
    const points = Number(req.query.points ?? 60);
    if (!Number.isInteger(points) || points < 2 || points > 500) {
      throw new Refusal(400, 'bad_points', 'points must be a whole number from 2 to 500.');
    }
    res.json({ symbol, points: await quotes.history(symbol, points) });
  }] });

  route('/api/watchlists/:user', {
    get: [async (req, res) => {
      const items = await database.watchlist(userName(req));
      res.json({ items: items.map((item) => ({ ...item, name: symbolName(item.symbol) })) });
    }],
    post: [...json, async (req, res) => {
      const user = userName(req);
      const symbol = knownSymbol(req.body?.symbol);
      await answerOnce(req, res, { user, symbol }, (client) => database.addToWatchlist(client, user, symbol));
    }],
  });
  route('/api/watchlists/:user/:symbol', { delete: [async (req, res) => {
    const removed = await database.removeFromWatchlist(userName(req), knownSymbol(req.params.symbol));
    if (!removed) throw new Refusal(404, 'not_watched', 'The symbol is not on the watch-list.');
    res.status(204).end();
  }] });

  route('/api/alerts/:user', {
    get: [async (req, res) => res.json({ alerts: await database.alerts(userName(req)) })],
    post: [...json, async (req, res) => {
      const user = userName(req);
      const symbol = knownSymbol(req.body?.symbol);
      const { above } = req.body;
      if (typeof above !== 'number' || !(above >= 0.0001 && above < 1e9)) {
        throw new Refusal(400, 'bad_above', 'above must be a number, at least 0.0001 and below 1,000,000,000.');
      }
      await answerOnce(req, res, { user, symbol, above }, (client) => database.addAlert(client, user, symbol, above));
    }],
  });
  route('/api/alerts/:user/:id', { delete: [async (req, res) => {
    const removed = /^\d{1,15}$/.test(req.params.id) && await database.removeAlert(userName(req), req.params.id);
    if (!removed) throw new Refusal(404, 'no_alert', 'There is no such alert.');
    res.status(204).end();
  }] });

  async function answerOnce(req, res, request, work) {
    const key = req.get('idempotency-key');
    if (key !== undefined && !/^[\x21-\x7e]{1,200}$/.test(key)) {
      throw new Refusal(400, 'bad_idempotency_key', 'Idempotency-Key must be 1 to 200 visible ASCII characters.');
    }
    const result = await database.once(key, JSON.stringify([req.route.path, request]), work);
    if (result.mismatch) throw new Refusal(422, 'idempotency_key_reused', 'This Idempotency-Key came with a different request before.');
    if (result.replayed) res.setHeader('idempotency-replayed', 'true');
    res.status(result.status).json(result.body);
  }

  app.use((req, res, next) => (/^\/api(\/|$)/.test(req.path) ? next() : files(req, res, next)));
  app.use((req) => {
    throw new Refusal(404, 'not_found', `There is nothing at ${req.path}.`);
  });

  app.use((error, req, res, next) => {
    let refusal = error;
    if (!(error instanceof Refusal)) {
      const [status, code, message] = PARSER_ERRORS[error.type]
        ?? (error.status >= 400 && error.status < 500 ? [error.status, 'bad_request', 'The request is malformed.'] : [503, 'unavailable', 'A part of the service is away. Try again.']);
      refusal = { status, code, message };
      if (status >= 500) log.error('request threw', { method: req.method, path: req.path, error, stack: error.stack });
    }
    if (res.headersSent) return next(error); // too late to say more: the connection is cut
    res.setHeader('cache-control', 'no-store');
    return res.status(refusal.status).json({ error: { code: refusal.code, message: refusal.message } });
  });

  return app;
}

function userName(req) {
  const { user } = req.params;
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/i.test(user)) return user;
  throw new Refusal(400, 'bad_user', 'A user name has 1 to 40 letters, digits, - or _.');
}

function knownSymbol(value) {
  if (typeof value !== 'string') throw new Refusal(400, 'bad_symbol', 'symbol must be a text like "AAPL".');
  const symbol = value.trim().toUpperCase();
  if (isSymbol(symbol)) return symbol;
  throw new Refusal(404, 'unknown_symbol', `There is no symbol "${symbol.slice(0, 20)}".`);
}

function symbolList(value) {
  const parts = String(value ?? '').split(',').filter(Boolean);
  if (!parts.length || parts.length > SYMBOLS_MAX) {
    throw new Refusal(400, 'bad_symbols', `Name 1 to ${SYMBOLS_MAX} symbols, like ?symbols=AAPL,MSFT.`);
  }
  return [...new Set(parts.map(knownSymbol))];
}
