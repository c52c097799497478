// Requests to the server. A write carries a key, so that it can be sent again without happening twice.

const TRIES = 3;

async function request(method, path, body, { signal } = {}) {
  const headers = { accept: 'application/json' };
  if (body) Object.assign(headers, { 'content-type': 'application/json', 'idempotency-key': randomKey() });
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body), signal });
    } catch (error) {
      if (signal?.aborted || attempt === TRIES) throw error;
    }
    if (response?.status === 204) return null;
    if (response?.ok) return response.json();
    if (response && (response.status < 500 || attempt === TRIES)) {
      const { error } = await response.json().catch(() => ({}));
      throw new Error(error?.message ?? `The server answered ${response.status}.`);
    }
    await new Promise((resolve) => { setTimeout(resolve, 300 * attempt); });
  }
}

function randomKey() { // randomUUID() exists only on secure pages
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const path = (...parts) => parts.map(encodeURIComponent).join('/');

export const api = {
  search: (text, signal) => request('GET', `symbols?q=${encodeURIComponent(text)}`, null, { signal }),
  history: (symbol, signal) => request('GET', `${path('quotes', symbol, 'history')}?points=60`, null, { signal }),
  watchlist: (user) => request('GET', path('watchlists', user)),
  watch: (user, symbol) => request('POST', path('watchlists', user), { symbol }),
  unwatch: (user, symbol) => request('DELETE', path('watchlists', user, symbol)),
  alerts: (user) => request('GET', path('alerts', user)),
  addAlert: (user, symbol, above) => request('POST', path('alerts', user), { symbol, above }),
  removeAlert: (user, id) => request('DELETE', path('alerts', user, id)),
};

/** ?user= in the address, else a name this browser keeps. */
export function currentUser() {
  const asked = new URLSearchParams(location.search).get('user');
  if (asked) return asked;
  const kept = localStorage.getItem('market-pulse.user') ?? `guest-${randomKey().slice(0, 8)}`;
  localStorage.setItem('market-pulse.user', kept);
  return kept;
}
