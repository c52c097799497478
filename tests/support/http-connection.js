// One HTTP/1.1 client connection on a raw socket, without pipelining: the strictest view of a server at little cost.
// Whatever a patient client would forgive is told: closes, resets, bytes too few, bytes too many.

import net from 'node:net';

const HEAD_MAX = 16 * 1024;
const BODY_MAX = 16 * 1024 * 1024;

export class ProtocolError extends Error {}

/** Collects one response. push() returns {status, headers, body} when the last byte is there, else undefined. */
export class ResponseReader {
  #chunks = [];
  #size = 0;
  #head;

  get begun() {
    return this.#size > 0;
  }

  push(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#head === undefined) this.#head = readHead(this.#all());
    if (this.#head === undefined || this.#size < this.#head.size) return undefined;
    const { status, headers, chunked, start, size } = this.#head;
    const body = chunked ? readChunked(this.#all(), start) : this.#all().subarray(start, size);
    if (body === undefined) return undefined;
    if (!chunked && this.#size > size)
      throw new ProtocolError(`${this.#size - size} bytes too many after the response`);
    return { status, headers, body };
  }

  #all() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks, this.#size)];
    return this.#chunks[0];
  }
}

function readHead(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0 && bytes.length > HEAD_MAX) throw new ProtocolError('the response head is too long');
  if (end < 0) return undefined;
  const lines = bytes.latin1Slice(0, end).split('\r\n');
  const status = /^HTTP\/1\.1 ([2-5]\d\d) /.exec(lines[0])?.[1];
  if (!status) throw new ProtocolError(`not a final status line: ${lines[0].slice(0, 80)}`);
  const headers = {};
  for (let i = 1; i < lines.length; i += 1) {
    const colon = lines[i].indexOf(':');
    if (colon < 1) throw new ProtocolError(`not a header: ${lines[i].slice(0, 80)}`);
    const name = lines[i].slice(0, colon).toLowerCase();
    if (name in headers && (name === 'content-length' || name === 'transfer-encoding'))
      throw new ProtocolError(`${name} came twice`);
    headers[name] = lines[i].slice(colon + 1).trim();
  }
  const start = end + 4;
  const length = headers['content-length'];
  const chunked = headers['transfer-encoding'] === 'chunked';
  const empty = status === '204' || status === '304';
  if (chunked ? length !== undefined : !empty && !/^\d+$/.test(length)) {
    throw new ProtocolError('the body has no clear length'); // until close: a cut could not be told from the end
  }
  const size = chunked || empty ? start : start + Number(length);
  if (size > BODY_MAX) throw new ProtocolError('the body is too long');
  return { status: Number(status), headers, chunked, start, size };
}

function readChunked(bytes, start) {
  if (bytes.length > BODY_MAX) throw new ProtocolError('the body is too long');
  const parts = [];
  let at = start;
  for (;;) {
    const line = bytes.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const digits = /^([0-9a-f]{1,7})(;|$)/i.exec(bytes.latin1Slice(at, line))?.[1];
    if (digits === undefined) throw new ProtocolError('not a chunk size');
    const size = parseInt(digits, 16);
    const end = line + 2 + size;
    if (bytes.length < end + 2) return undefined;
    if (bytes.latin1Slice(end, end + 2) !== '\r\n')
      throw new ProtocolError('a chunk is longer than it says, or there are trailers');
    if (size === 0) {
      if (bytes.length > end + 2)
        throw new ProtocolError(`${bytes.length - end - 2} bytes too many after the response`);
      return Buffer.concat(parts);
    }
    parts.push(bytes.subarray(line + 2, end));
    at = end + 2;
  }
}

/**
 * A connection that opens when first sent on. It reports through `events`:
 *   answered(response)        the response is complete
 *   failed(reason, detail)    the request in flight came to nothing
 *   broken(reason, detail)    something wrong with no request in flight
 *   free()                    after answered or failed, once another request may be sent: at once when the connection
 *                             stays, at its end when the server said it would close
 * Reasons: refused, connect failed, reset, closed early, truncated, malformed, idle close race, unasked bytes, not closed.
 */
export class HttpConnection {
  #target;
  #events;
  #socket;
  #reader; // of the request in flight
  #closing = false; // the response is here, the end of the connection is due
  #answers = 0;
  idleCloses = 0;
  opened = 0;

  constructor(target, events) {
    this.#target = target;
    this.#events = events;
  }

  get busy() {
    return this.#reader !== undefined || this.#closing;
  }

  send(bytes) {
    this.#reader = new ResponseReader();
    if (!this.#socket) this.#open();
    this.#socket.write(bytes, 'latin1');
  }

  /** Gives up what is in flight; reported as `reason`. */
  abort(reason, detail) {
    this.#drop();
    if (this.#reader) this.#fail(reason, detail);
    else if (this.#closing) this.#finish('not closed', detail);
  }

  /** Ends an idle connection the polite way. */
  end() {
    const socket = this.#socket;
    if (!socket) return;
    this.#drop(false);
    socket.end();
    socket.unref();
  }

  #open() {
    const socket = net.connect({ ...this.#target, noDelay: true });
    this.#socket = socket;
    this.#answers = 0;
    this.opened += 1;
    socket.on('data', (chunk) => socket === this.#socket && this.#data(chunk));
    socket.on('end', () => socket === this.#socket && this.#ended());
    socket.on('error', (error) => socket === this.#socket && this.#error(error));
  }

  #drop(destroy = true) {
    const socket = this.#socket;
    this.#socket = undefined;
    if (destroy) socket?.destroy();
  }

  #data(chunk) {
    if (!this.#reader) {
      this.#drop();
      const text = chunk.toString('latin1', 0, 60);
      return this.#closing ? this.#finish('unasked bytes', text) : this.#events.broken('unasked bytes', text);
    }
    let response;
    try {
      response = this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#drop();
      return this.#fail('malformed', error.message);
    }
    if (!response) return undefined;
    this.#answers += 1;
    this.#reader = undefined;
    this.#closing = response.headers.connection?.toLowerCase() === 'close';
    this.#events.answered(response);
    if (!this.#closing) this.#events.free();
    return undefined;
  }

  #ended() {
    this.#drop(false); // our half is ended by the socket itself
    if (this.#reader?.begun) this.#fail('truncated', 'the connection ended within the response');
    else if (this.#reader)
      this.#fail(this.#answers ? 'idle close race' : 'closed early', 'the connection ended without a response');
    else if (this.#closing) this.#finish();
    else this.idleCloses += 1;
  }

  #error({ code, message }) {
    this.#drop();
    if (code === 'ECONNREFUSED') this.#fail('refused', message);
    else if (code !== 'ECONNRESET' && code !== 'EPIPE') this.#fail('connect failed', message);
    else if (this.#reader?.begun) this.#fail('reset', `${code} within the response`);
    else if (this.#reader) this.#fail(this.#answers ? 'idle close race' : 'reset', `${code} before a response`);
    else if (this.#closing) this.#finish('reset', `${code} after the response`);
    else this.#events.broken('reset', `${code} while idle`);
  }

  #fail(reason, detail) {
    if (!this.#reader) return this.#closing ? this.#finish(reason, detail) : this.#events.broken(reason, detail);
    this.#reader = undefined;
    this.#events.failed(reason, detail);
    return this.#events.free();
  }

  #finish(reason, detail) {
    this.#closing = false;
    if (reason) this.#events.broken(reason, detail);
    this.#events.free();
  }
}
