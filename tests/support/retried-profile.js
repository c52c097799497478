// The tiny application under a load whose POSTs may reach it twice: when an instance dies with a request, the proxy sends
// one that carries an Idempotency-Key again, and the answer says that it was a repetition.

import { tinyApp } from './profiles.js';

export function tinyAppRetried(options) {
  const profile = tinyApp(options);
  return {
    ...profile,
    post: (n) => ({
      ...profile.post(n),
      check(body) {
        const order = JSON.parse(body.toString());
        return order.n === n && order.id >= 0 ? undefined : 'not the order sent';
      },
    }),
  };
}
