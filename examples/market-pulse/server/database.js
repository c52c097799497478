// PostgreSQL: watch-lists, alerts, quote history, idempotency keys.

import pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
pg.types.setTypeParser(pg.types.builtins.NUMERIC, Number);

const MIGRATION_LOCK = 0x6d61726b; // 'mark'; any number that every version uses

// Append only. Two releases run side by side during a deploy, and the older one may come back, so a
// migration only adds: it never drops, renames or narrows what the release before it uses.
const MIGRATIONS = [
  `CREATE TABLE quotes (
     symbol   text NOT NULL,
     time     timestamptz NOT NULL,
     price    numeric(18,4) NOT NULL CHECK (price > 0),
     currency text NOT NULL,
     source   text NOT NULL,
     PRIMARY KEY (symbol, time));
   CREATE TABLE watchlist_items (
     id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     user_name text NOT NULL,
     symbol    text NOT NULL,
     created   timestamptz NOT NULL DEFAULT now(),
     UNIQUE (user_name, symbol));
   CREATE TABLE alerts (
     id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     user_name text NOT NULL,
     symbol    text NOT NULL,
     above     numeric(18,4) NOT NULL CHECK (above > 0),
     created   timestamptz NOT NULL DEFAULT now());
   CREATE INDEX alerts_by_user ON alerts (user_name, id);
   CREATE TABLE idempotency_keys (
     key      text PRIMARY KEY,
     request  text NOT NULL,
     status   smallint,
     response json,
     created  timestamptz NOT NULL DEFAULT now());
   CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created);`,
];

export function createDatabase({ databaseUrl, databasePool }, log) {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'market-pulse',
    max: databasePool,
    connectionTimeoutMillis: 2000,
    statement_timeout: 5000,
    query_timeout: 6000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
  });
  pool.on('error', (error) => log.warn('a database connection was lost', { error }));

  let migrated = false;
  let ended = false;

  async function transaction(work) {
    const client = await pool.connect();
    let broken;
    try {
      await client.query('BEGIN');
      const result = await work(client);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((failure) => { broken = failure; });
      throw error;
    } finally {
      client.release(broken);
    }
  }

  const migrate = () => transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`);
    const { rows } = await client.query('SELECT coalesce(max(version), 0) AS version FROM schema_migrations');
    for (let version = rows[0].version + 1; version <= MIGRATIONS.length; version += 1) {
      await client.query(MIGRATIONS[version - 1]);
      await client.query('INSERT INTO schema_migrations (version) VALUES ($1)', [version]);
      log.info('database schema migrated', { version });
    }
    if (rows[0].version > MIGRATIONS.length) {
      log.info('database schema is newer than this release', { version: rows[0].version, known: MIGRATIONS.length });
    }
  });

  return {
    /** Resolves once the schema is there; keeps trying while the database is away. */
    async prepare() {
      for (let wait = 100; !ended; wait = Math.min(wait * 2, 2000)) {
        try {
          await migrate();
          migrated = true;
          return;
        } catch (error) {
          if (ended) return;
          log.error('database is not usable yet; check DATABASE_URL and the server', { error, retry_ms: wait });
          await sleep(wait);
        }
      }
    },

    async check() {
      await pool.query('SELECT 1');
      if (!migrated) throw new Error('the schema is not there yet');
      return `${pool.totalCount} connections, ${pool.waitingCount} waiting`;
    },

    /**
     * Runs `work(client)` → {status, body} in a transaction. With a key it happens once: the same key
     * later, or at the same time on another instance, gets the first result and changes nothing.
     */
    once(key, request, work) {
      return transaction(async (client) => {
        if (!key) return work(client);
        const claim = await client.query( // waits for a concurrent holder of the key to commit or fail
          'INSERT INTO idempotency_keys (key, request) VALUES ($1, $2) ON CONFLICT DO NOTHING', [key, request]);
        if (claim.rowCount === 0) {
          const { rows } = await client.query('SELECT request, status, response FROM idempotency_keys WHERE key = $1', [key]);
          if (rows[0].request !== request) return { mismatch: true };
          return { status: rows[0].status, body: rows[0].response, replayed: true };
        }
        const result = await work(client);
        await client.query('UPDATE idempotency_keys SET status = $2, response = $3 WHERE key = $1',
          [key, result.status, JSON.stringify(result.body)]);
        return result;
      });
    },

    async addToWatchlist(client, user, symbol) {
      const { rows } = await client.query( // the update changes nothing; it makes the row that is there come back
        `INSERT INTO watchlist_items (user_name, symbol) VALUES ($1, $2)
         ON CONFLICT (user_name, symbol) DO UPDATE SET symbol = excluded.symbol
         RETURNING id, xmax = 0 AS inserted`, [user, symbol]);
      return { status: rows[0].inserted ? 201 : 200, body: { id: rows[0].id, user, symbol } };
    },

    async watchlist(user) {
      const { rows } = await pool.query(
        'SELECT id, symbol, created FROM watchlist_items WHERE user_name = $1 ORDER BY id', [user]);
      return rows;
    },

    async removeFromWatchlist(user, symbol) {
      const { rowCount } = await pool.query(
        'DELETE FROM watchlist_items WHERE user_name = $1 AND symbol = $2', [user, symbol]);
      return rowCount > 0;
    },

    async addAlert(client, user, symbol, above) {
      const { rows } = await client.query(
        'INSERT INTO alerts (user_name, symbol, above) VALUES ($1, $2, $3) RETURNING id, above', [user, symbol, above]);
      return { status: 201, body: { id: rows[0].id, user, symbol, above: rows[0].above } };
    },

    async alerts(user) {
      const { rows } = await pool.query(
        'SELECT id, symbol, above, created FROM alerts WHERE user_name = $1 ORDER BY id DESC LIMIT 100', [user]);
      return rows;
    },

    async removeAlert(user, id) {
      const { rowCount } = await pool.query('DELETE FROM alerts WHERE user_name = $1 AND id = $2', [user, id]);
      return rowCount > 0;
    },

    async saveQuotes(quotes) {
      await pool.query(
        `INSERT INTO quotes (symbol, time, price, currency, source)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::numeric[], $4::text[], $5::text[])
         ON CONFLICT DO NOTHING`,
        ['symbol', 'time', 'price', 'currency', 'source'].map((field) => quotes.map((quote) => quote[field])));
    },

    async lastQuote(symbol) {
      const { rows } = await pool.query(
        'SELECT symbol, price, currency, time, source FROM quotes WHERE symbol = $1 ORDER BY time DESC LIMIT 1', [symbol]);
      return rows[0] && { ...rows[0], time: rows[0].time.toISOString() };
    },

    async history(symbol, points) {
      const { rows } = await pool.query(
        'SELECT time, price FROM quotes WHERE symbol = $1 ORDER BY time DESC LIMIT $2', [symbol, points]);
      return rows.reverse();
    },

    /** Forgets what nobody asks for any more. */
    async prune() {
      await pool.query(`DELETE FROM idempotency_keys WHERE created < now() - interval '2 days'`);
      await pool.query(`DELETE FROM quotes WHERE time < now() - interval '90 days'`);
    },

    async end() {
      ended = true;
      await pool.end();
    },
  };
}
