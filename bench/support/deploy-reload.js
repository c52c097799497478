// The peer "plain HAProxy": start the new instances, write their ports into haproxy.cfg, reload it (SIGUSR2), and send
// the old ones SIGTERM.

import { eventually, startComponent } from '../../tests/support/processes.js';
import { freePort, startHaproxy } from '../../tests/support/services.js';
import { addCommon, measure, tellFailures } from './stack.js';

const INSTANCES = 2;
const READY_MS = 30_000;
const STOP_MS = 25_000;
const BACKEND = 'option httpchk GET /readyz';
const SERVER = 'check inter 1s';

async function startInstance(folder, release, index, environment) {
  const port = await freePort();
  const instance = await startComponent({
    name: `instance ${index} of ${release}`,
    command: process.execPath,
    args: ['server/main.js'],
    cwd: folder,
    env: {
      ...environment,
      NODE_ENV: 'production',
      HOST: '127.0.0.1',
      PORT: String(port),
      HOLDFAST_RELEASE: release,
      HOLDFAST_INSTANCE: String(index),
    },
  });
  const ready = async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
  await eventually(ready, { ms: READY_MS, what: `the readiness of ${instance.name}` });
  return { ...instance, port };
}

const startColour = (folder, release, environment) =>
  Promise.all(Array.from({ length: INSTANCES }, (_, i) => startInstance(folder, release, i, environment)));

const proxyOf = (colour) => ({
  servers: colour.map(({ port }) => ({ port, options: SERVER })),
  backend: BACKEND,
});

/** `folders` are the two versions. */
export async function measureReload(figures, folders, stack, options) {
  const environment = { ...stack.variables, ...(await stack.secrets('reload')) };
  let name = 'v0';
  let serving = await startColour(folders[0], name, environment);
  const proxy = await startHaproxy(proxyOf(serving));
  let count = 0;
  const result = await measure({
    ...options,
    port: proxy.port,
    requests: 0,
    connect: () => stack.connect('reload'),
    change: async (kind) => {
      count += 1;
      const from = name;
      const to = `v${count}`;
      const fresh = await startColour(folders[kind === 'forward' ? 1 : 0], to, environment);
      await proxy.reload(proxyOf(fresh));
      const old = serving;
      [serving, name] = [fresh, to];
      await Promise.all(old.map((instance) => instance.stop('SIGTERM', STOP_MS)));
      return { from, to };
    },
  });
  tellFailures(options.say, result);
  addCommon(figures, 'reload', result);
  await proxy.stop();
  await Promise.all(serving.map((instance) => instance.stop('SIGTERM', STOP_MS)));
  return result;
}
