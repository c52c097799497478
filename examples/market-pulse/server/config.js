// Reads and checks the environment. Every problem is reported at once, in words that say what to do.

import { readFileSync } from 'node:fs';
import { ADAPTERS } from './providers.js';

const LEVELS = ['error', 'warn', 'info', 'debug'];
const { name, version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url)));

/** Returns the configuration; throws ConfigError, whose `problems` has one line a problem. */
export function readConfig(env) {
  const problems = [];

  const integer = (key, fallback, min, max) => {
    if (!env[key]) return fallback;
    const value = Number(env[key]);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    problems.push(`${key} must be a whole number from ${min} to ${max}, not "${env[key]}"`);
    return fallback;
  };

  // The value may hold a password, so messages about it never quote it.
  const address = (key, schemes, example) => {
    const value = env[key];
    if (!value) problems.push(`${key} is missing; set it like ${example}`);
    else if (!URL.canParse(value) || !schemes.includes(new URL(value).protocol)) {
      problems.push(`${key} is not a ${schemes.join(' or ')}// address; set it like ${example}`);
    }
    return value;
  };

  const config = {
    name,
    version,
    release: env.HOLDFAST_RELEASE || 'dev',
    instance: env.HOLDFAST_INSTANCE || 'dev',
    colour: env.HOLDFAST_COLOUR || 'none',
    environment: env.HOLDFAST_ENVIRONMENT || 'development',
    host: env.HOST || '127.0.0.1',
    port: integer('PORT', 3000, 0, 65535),
    logLevel: env.LOG_LEVEL || 'info',
    databaseUrl: address('DATABASE_URL', ['postgres:', 'postgresql:'],
      'postgres://user:password@127.0.0.1:5432/market_pulse'),
    databasePool: integer('DATABASE_POOL', 10, 1, 100),
    redisUrl: address('REDIS_URL', ['redis:', 'rediss:'], 'redis://127.0.0.1:6379/0'),
    cacheSeconds: integer('CACHE_SECONDS', 30, 1, 3600),
    closeSpreadMs: integer('HOLDFAST_CLOSE_SPREAD_MS', 500, 0, 60_000),
    stopTimeoutMs: integer('STOP_TIMEOUT_MS', 15_000, 100, 600_000),
    providers: readProviders(env, problems),
  };
  if (!LEVELS.includes(config.logLevel)) {
    problems.push(`LOG_LEVEL must be one of ${LEVELS.join(', ')}, not "${config.logLevel}"`);
  }
  if (problems.length) throw new ConfigError(problems);
  return Object.freeze(config);
}

export class ConfigError extends Error {
  constructor(problems) {
    super(`configuration is wrong:\n  ${problems.join('\n  ')}`);
    this.problems = problems;
  }
}

function readProviders(env, problems) {
  const known = Object.keys(ADAPTERS).join(', ');
  const entries = (env.PROVIDERS ?? '').split(/\s+/).filter(Boolean);
  if (!entries.length) {
    problems.push('PROVIDERS is missing; set it like "alpha=http://127.0.0.1:9101 beta=…", first asked first');
  }
  const seen = new Set();
  return entries.map((entry) => {
    const at = entry.indexOf('=');
    const provider = at < 0 ? entry : entry.slice(0, at);
    const url = at < 0 ? '' : entry.slice(at + 1);
    const variable = `PROVIDER_KEYS_${provider.toUpperCase()}`;
    const keys = (env[variable] ?? '').split(',').map((key) => key.trim()).filter(Boolean);
    if (!Object.hasOwn(ADAPTERS, provider)) {
      problems.push(`PROVIDERS names "${provider}"; known providers are ${known}`);
    } else if (seen.has(provider)) {
      problems.push(`PROVIDERS names "${provider}" twice`);
    } else {
      if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
        problems.push(`PROVIDERS needs an http address for "${provider}", like ${provider}=http://127.0.0.1:9101`);
      }
      if (!keys.length) problems.push(`${variable} is missing; set it to one or more keys, separated by commas`);
    }
    seen.add(provider);
    return { name: provider, url, keys };
  });
}
