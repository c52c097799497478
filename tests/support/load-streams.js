// One WebSocket of the load: it must hear something all the time, and be told when the server goes away.

import WebSocket from 'ws';

const AFTER_FAILURE_MS = 200;
const GOODBYE_MS = 2000;

export class StreamClient {
  #options;
  #random;
  #stream;
  #failed;
  #socket;
  #stopping = false;
  #isFirst = true; // no message on this connection yet
  #heard = Infinity; // when the last message came, on the clock of performance.now()
  #lastOfAll;
  #listeners = [];
  opened = 0;
  messages = 0;
  closes = {};
  gapMsMax = 0; // within a connection
  movedMsMax = 0; // from the last message of one to the first of the next
  open = false;
  release;

  constructor({ options, random, stream, failed }) {
    this.#options = options;
    this.#random = random;
    this.#stream = stream;
    this.#failed = failed;
    setTimeout(() => this.#connect(), random() * options.reconnectMs);
  }

  #connect() {
    if (this.#stopping) return;
    const { target, timeoutMs, host } = this.#options;
    const { path } = this.#stream;
    const socket = new WebSocket(`ws://${target.host}:${target.port}${path}`, {
      perMessageDeflate: false,
      handshakeTimeout: timeoutMs,
      headers: { host, 'user-agent': 'holdfast-load' },
    });
    this.#socket = socket;
    this.#isFirst = true;
    let failure; // told once a connection
    const fail = (reason, detail) => {
      if (!failure) this.#failed(reason, detail, { path });
      failure ??= reason;
    };
    socket.on('open', () => {
      this.open = true;
      this.opened += 1;
      this.#heard = performance.now();
    });
    socket.on('message', (data, binary) => {
      if (socket === this.#socket) this.#message(data, binary, fail);
    });
    socket.on('unexpected-response', (request, response) => {
      fail(`status ${response.statusCode}`, 'instead of an upgrade');
      socket.terminate();
    });
    socket.on('error', (error) => fail(this.open ? 'broken' : 'not opened', error.message));
    socket.on('close', (code) => {
      const wasOpen = this.open;
      this.open = false;
      this.#heard = Infinity;
      if (wasOpen) this.closes[code] = (this.closes[code] ?? 0) + 1;
      if (this.#stopping) return;
      if (!this.#options.closeCodes.includes(code))
        fail(`closed with ${code}`, code === 1006 ? 'without a close frame' : '');
      setTimeout(
        () => this.#connect(),
        this.#random() * this.#options.reconnectMs + (failure ? AFTER_FAILURE_MS : 0),
      );
    });
    this.#giveUp = (reason, detail) => {
      fail(reason, detail);
      socket.terminate();
    };
  }

  #giveUp = () => {};

  #message(data, binary, fail) {
    const now = performance.now();
    this.gapMsMax = Math.max(this.gapMsMax, now - this.#heard);
    if (this.#isFirst && this.#lastOfAll) this.movedMsMax = Math.max(this.movedMsMax, now - this.#lastOfAll);
    this.#isFirst = false;
    this.#heard = now;
    this.#lastOfAll = now;
    this.messages += 1;
    const text = data.toString();
    const { problem, release } = binary ? { problem: 'a binary message' } : this.#read(text);
    if (problem) fail('wrong message', `${problem}: ${text.slice(0, 200)}`);
    if (release !== undefined) this.release = release;
    for (const resolve of this.#listeners.splice(0)) resolve();
  }

  #read(text) {
    try {
      return this.#stream.read(text);
    } catch (error) {
      return { problem: `not of the right shape, ${error.message}` };
    }
  }

  /** Resolves with the next message. */
  nextMessage() {
    return new Promise((resolve) => {
      this.#listeners.push(resolve);
    });
  }

  sweep(now) {
    if (now - this.#heard < this.#options.gapMs) return;
    this.#heard = Infinity;
    this.#giveUp('silent', `no message for ${this.#options.gapMs} ms`);
  }

  /** Says goodbye, and expects to be answered. */
  async end() {
    this.#stopping = true;
    this.#heard = Infinity;
    const socket = this.#socket;
    if (!socket || socket.readyState === WebSocket.CLOSED) return;
    let timer;
    await new Promise((resolve) => {
      timer = setTimeout(() => {
        this.#giveUp('goodbye not answered', `within ${GOODBYE_MS} ms`);
        resolve();
      }, GOODBYE_MS);
      socket.once('close', resolve);
      if (socket.readyState === WebSocket.OPEN) socket.close(1000);
      else if (socket.readyState === WebSocket.CONNECTING) socket.once('open', () => socket.close(1000));
    });
    clearTimeout(timer);
  }
}
