// One JSON object a line on stdout: time, level, message, then fields.

import winston from 'winston';

const { combine, errors, json } = winston.format;

const stamp = winston.format((info) => {
  const { level, message, ...fields } = info;
  for (const [key, value] of Object.entries(fields)) {
    if (value instanceof Error) fields[key] = value.message || value.code || value.name;
  }
  return Object.assign({ time: new Date().toISOString(), level, message }, fields, symbolsOf(info));
});

// winston keeps its own bookkeeping under symbol keys, which a spread of named fields would lose.
function symbolsOf(info) {
  return Object.fromEntries(Object.getOwnPropertySymbols(info).map((key) => [key, info[key]]));
}

export function createLog({ logLevel, release, instance }) {
  return winston.createLogger({
    level: logLevel,
    defaultMeta: { release, instance },
    format: combine(errors({ stack: true }), stamp(), json({ deterministic: false })),
    transports: [new winston.transports.Console()],
    exitOnError: false,
  });
}
