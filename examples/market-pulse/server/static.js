// The front end, from memory. Built files are few, and an entity tag must come from the content: release
// artifacts carry no meaningful modification times, and index.html has the same size in most releases.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
};
const ENCODINGS = [['br', '.br'], ['gzip', '.gz'], ['identity', '']];
const HASHED = /^\/assets\/.+-[\w-]{8}\.\w+$/; // names that Vite derives from the content

function load(folder) {
  const files = new Map(); // '/path' -> {body, tag}
  if (!existsSync(folder)) return files;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.startsWith('.')) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const body = readFileSync(path);
    const tag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    files.set(`/${relative(folder, path).split(sep).join('/')}`, { body, tag });
  }
  return files;
}

// "br;q=0" refuses, a missing header accepts only the plain file.
function accepts(header, encoding) {
  return encoding === 'identity' || (header ?? '').split(',').some((part) => {
    const [name, ...parameters] = part.trim().toLowerCase().split(/\s*;\s*/);
    return name === encoding && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}

/** Express middleware for `folder`; answers only what it has. */
export function createStatic(folder) {
  const files = load(folder);

  function send(req, res, path) {
    const accepted = req.headers['accept-encoding'];
    const [encoding, suffix] = ENCODINGS.find(([name, end]) => accepts(accepted, name) && files.has(path + end));
    const { body, tag } = files.get(path + suffix);
    res.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream');
    res.setHeader('cache-control', HASHED.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache');
    res.setHeader('vary', 'accept-encoding');
    res.setHeader('etag', tag);
    if (encoding !== 'identity') res.setHeader('content-encoding', encoding);
    const tags = (req.headers['if-none-match'] ?? '').split(',').map((each) => each.trim().replace(/^W\//, ''));
    if (tags.includes(tag)) return res.status(304).end();
    res.setHeader('content-length', body.length);
    return res.end(req.method === 'HEAD' ? undefined : body);
  }

  return (req, res, next) => {
    if (req.method !== 'GET' && req.method !== 'HEAD') return next();
    let path;
    try {
      path = decodeURIComponent(req.path);
    } catch {
      return next();
    }
    if (files.has(path) && !/\.(br|gz)$/.test(path)) return send(req, res, path);
    const navigation = (req.headers.accept ?? '').includes('text/html') && !extname(path);
    if ((path === '/' || navigation) && files.has('/index.html')) return send(req, res, '/index.html');
    return next();
  };
}
