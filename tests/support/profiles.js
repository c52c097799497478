// What the load asks of each application, and what answer is right. A check returns what is wrong, or undefined.
//
// A profile is {gets: [{path, check(body, headers)}], post(n) → {path, body, check}, stream: {path, read(text) → {problem, release}}}.
// post(n) is the n-th POST of the run; its content says which it is, so that it can be found again.

function json(check) {
  return (body, headers) => {
    if (!headers['content-type']?.startsWith('application/json')) return 'not JSON by its content-type';
    let value;
    try {
      value = JSON.parse(body.toString());
    } catch {
      return 'not JSON';
    }
    return check(value, headers);
  };
}

/** A check of a JSON message of a stream; says which release sent it. */
function message(check) {
  return (text) => {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return { problem: 'not JSON' };
    }
    return { problem: check(value), release: value.release };
  };
}

// A replay of a POST that the client sent once: something on the way sent it twice.
const replayed = (headers) => (headers['idempotency-replayed'] ? 'repeated on the way' : undefined);

const goodQuote = (quote) => Number.isFinite(quote?.price) && quote.price > 0 && quote.currency === 'USD';

export function marketPulse({ run }) {
  const symbols = ['AAPL', 'MSFT', 'NVDA', 'KO', 'BRK.B'];
  const quotes = (wanted) => ({
    path: `/api/quotes?symbols=${wanted.join(',')}`,
    check: json(({ quotes: found, missing }) => {
      if (missing?.length !== 0) return 'a quote is missing';
      const same =
        found?.length === wanted.length &&
        wanted.every((symbol, i) => found[i].symbol === symbol && goodQuote(found[i]));
      return same ? undefined : 'not the quotes asked for';
    }),
  });
  return {
    gets: [
      ...symbols.map((symbol) => quotes([symbol])),
      quotes(symbols),
      {
        path: '/api/symbols?q=apple',
        check: json(({ symbols: [first] }) => (first?.symbol === 'AAPL' ? undefined : 'Apple is not found')),
      },
      {
        path: '/api/version',
        check: json(({ name, release }, headers) =>
          name === 'market-pulse' && release === headers['x-release'] ? undefined : 'not the version',
        ),
      },
      {
        path: '/',
        check: (body) => (/<div id="root">.*<\/html>\s*$/s.test(body.toString()) ? undefined : 'not the page'),
      },
    ],
    post(n) {
      const symbol = symbols[n % symbols.length];
      const user = `load-${run}`;
      const above = n + 1;
      return {
        path: `/api/alerts/${user}`,
        body: { symbol, above },
        check: json((alert, headers) => {
          const same = alert.id > 0 && alert.user === user && alert.symbol === symbol && alert.above === above;
          return same ? replayed(headers) : 'not the alert asked for';
        }),
      };
    },
    stream: {
      path: '/stream?symbols=AAPL,MSFT',
      read: message((value) => {
        if (value.type === 'hello') return value.release ? undefined : 'no release';
        const same = value.type === 'quote' && ['AAPL', 'MSFT'].includes(value.symbol) && goodQuote(value);
        return same ? undefined : 'not a quote asked for';
      }),
    },
  };
}

export function tinyApp() {
  const item = (name, size) => ({
    path: `/items/${name}?size=${size}`,
    check: json(({ name: given, filler, release }, headers) => {
      if (given !== name || release !== headers['x-release']) return 'not the item asked for';
      return filler === 'x'.repeat(size) ? undefined : 'not the filler asked for';
    }),
  });
  return {
    gets: [item('a', 10), item('b', 300), item('c', 5000), item('chunked', 20_000)],
    post: (n) => ({
      path: '/orders',
      body: { n },
      check: json((order, headers) => (order.n === n && order.id >= 0 ? replayed(headers) : 'not the order sent')),
    }),
    stream: {
      path: '/stream',
      read: message(({ type, release }) => (type === 'tick' && release ? undefined : 'not a tick')),
    },
  };
}
