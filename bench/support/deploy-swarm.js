// The peer `docker service update`: Swarm on one node, start-first, with a health check.
//
// All of it (dockerd, PostgreSQL, Redis, the load) runs in process, network and mount namespaces of its own, made by
// re-running this file under unshare; nothing of it is seen outside, and it ends with its first process.
//
// No registry is asked: the image is imported from a tar of node, HAProxy, the libraries they name, and the built
// application. Kernels without IPVS have no routing mesh, so HAProxy stands before the service, finding its tasks by
// Docker's DNS (server-template) and checking them as the other peer does: the set-up that HAProxy documents for Swarm,
// and kinder to it than the mesh, which checks nothing.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually, run, startComponent, stopAll, temporaryFolder } from '../../tests/support/processes.js';
import { addCommon, measure, startStack, tellFailures } from './stack.js';

const SELF = fileURLToPath(import.meta.url);
const CGROUPS = '/sys/fs/cgroup';
const GATEWAY = '172.18.0.1'; // of docker_gwbridge, in our network namespace
const PORT = 9000;
const APP_PORT = 3000;
const NODE = process.execPath;
const PEER_MS_MAX = 40 * 60 * 1000;
const COMMAND_MS = 180_000;
const DAEMON_MS = 30_000;

/** Measures the peer, or says why not: a result of measure(), or undefined. */
export async function measureSwarm(figures, folders, options) {
  const { say, ...rest } = options;
  if (process.getuid() !== 0) return skip(say, 'dockerd needs root');
  const folder = temporaryFolder('swarm', 0o755);
  const file = join(folder, 'request.json');
  writeFileSync(file, JSON.stringify({ folders, folder, options: rest }));
  const before = cgroupsOfDocker();
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const ended = await run('unshare', [...namespaces, NODE, SELF, file], { ms: PEER_MS_MAX, line: say });
  for (const path of cgroupsOfDocker()) if (!before.includes(path)) removeCgroup(path);
  const answer = join(folder, 'result.json');
  if (!existsSync(answer))
    return skip(say, `it ended with ${ended.signal ?? ended.status}: ${ended.stderr.slice(-2000)}`);
  const { why, result } = JSON.parse(readFileSync(answer, 'utf8'));
  if (!result) return skip(say, why);
  tellFailures(say, result);
  addCommon(figures, 'swarm', result);
  return result;
}

function skip(say, why) {
  say(`docker service update is skipped: ${why}`);
}

const cgroupsOfDocker = () =>
  readdirSync(CGROUPS)
    .map((controller) => join(CGROUPS, controller, 'docker'))
    .filter(existsSync);

function removeCgroup(path) {
  try {
    rmdirSync(path);
  } catch {
    /* somebody else's containers are in it by now */
  }
}

// ---- inside the namespaces

class CannotStart extends Error {}

async function inside(file) {
  const { folders, folder, options } = JSON.parse(readFileSync(file, 'utf8'));
  const say = (text) => console.log(text);
  let answer;
  try {
    answer = { result: withoutStates(await measureInside(folder, folders, { ...options, say })) };
  } catch (error) {
    answer = { why: error instanceof CannotStart ? error.message : error.stack };
  }
  writeFileSync(join(folder, 'result.json'), JSON.stringify(answer));
  await stopAll().catch(() => {}); // the namespace takes what is left
}

// What was sent byte by byte has been compared, and is no JSON.
function withoutStates(result) {
  for (const load of [result.quiet, result.busy]) delete load.posts.states;
  return result;
}

async function measureInside(folder, folders, options) {
  await must('ip', ['link', 'set', 'lo', 'up']);
  const docker = await startDocker(folder);
  const stack = await startStack();
  const environment = reachable({ ...stack.variables, ...(await stack.secrets('swarm')) });
  await startRelay(folder, Object.values(environment).join(' '));
  const images = await importImages(docker, folder, folders);
  await startService(docker, images[0], environment);
  await startProxy(docker, images[0], folder);

  let count = 0;
  let name = 'v0';
  let before;
  return measure({
    ...options,
    host: GATEWAY,
    port: PORT,
    requests: 0,
    connect: () => stack.connect('swarm'),
    change: async (kind) => {
      const from = name;
      if (kind === 'forward') {
        count += 1;
        before = name;
        name = `v${count}`;
        const version = ['--image', images[count % 2], '--env-add', `HOLDFAST_RELEASE=${name}`];
        await docker('service', 'update', '--detach=false', '--quiet', ...version, 'app');
      } else {
        name = before;
        await docker('service', 'update', '--detach=false', '--quiet', '--rollback', 'app');
      }
      return { from, to: name };
    },
  });
}

async function must(command, args, options) {
  const ended = await run(command, args, { ms: COMMAND_MS, ...options });
  if (ended.status === 0) return ended.stdout.trim();
  throw new Error(`${basename(command)} ${args.join(' ')} ended with ${ended.signal ?? ended.status}: ${ended.stderr}`);
}

/** dockerd with its data in `folder` and a swarm of one node. Returns docker(...args). */
async function startDocker(folder) {
  const host = `unix://${join(folder, 'docker.sock')}`;
  const docker = (...args) => must('docker', args, { env: { DOCKER_HOST: host } });
  const place = (flag, name) => [`--${flag}`, join(folder, name)];
  try {
    const places = [...place('data-root', 'data'), ...place('exec-root', 'exec'), ...place('pidfile', 'pid')];
    const daemon = await startComponent({ name: 'dockerd', command: 'dockerd', args: ['--host', host, ...places] });
    await eventually(() => docker('info'), { ms: DAEMON_MS, what: 'the readiness of dockerd' }).catch((error) => {
      throw new Error(`${error.message}; it said:\n${daemon.output().slice(-1500)}`);
    });
    await docker('swarm', 'init', '--advertise-addr', '127.0.0.1', '--listen-addr', '127.0.0.1:2377');
    await docker('network', 'create', '--driver', 'overlay', '--attachable', 'web');
  } catch (error) {
    throw new CannotStart(error.message);
  }
  return docker;
}

const reachable = (variables) =>
  Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [name, value.replaceAll('127.0.0.1', GATEWAY)]),
  );

/** The containers reach what listens on our loopback at the gateway's address. */
async function startRelay(folder, text) {
  const ports = [...new Set([...text.matchAll(new RegExp(`${GATEWAY}:(\\d+)`, 'g'))].map(([, port]) => port))];
  const file = join(folder, 'relay.cfg');
  const relays = ports.map((port) => `listen r${port}\n bind ${GATEWAY}:${port}\n server s 127.0.0.1:${port}\n`);
  writeFileSync(
    file,
    `defaults\n mode tcp\n timeout connect 2s\n timeout client 1h\n timeout server 1h\n${relays.join('')}`,
  );
  await startComponent({ name: 'the relay', command: 'haproxy', args: ['-W', '-f', file], ready: /Loading success/ });
}

/** An image of each version, from what is on this machine. */
async function importImages(docker, folder, folders) {
  const programs = [NODE, '/usr/sbin/haproxy'];
  const libraries = [];
  for (const program of programs) {
    const listed = await must('ldd', [program]);
    libraries.push(...[...listed.matchAll(/(?:=> )?(\/\S+) \(/g)].map(([, path]) => path));
  }
  const ready = `http://127.0.0.1:${APP_PORT}/readyz`;
  const health = `fetch("${ready}").then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`;
  const check = '--interval=1s --timeout=3s --retries=3 --start-period=20s';
  const changes = [`HEALTHCHECK ${check} CMD ${JSON.stringify([NODE, '-e', health])}`, 'WORKDIR /app'];
  const images = [];
  for (const [i, app] of folders.entries()) {
    const root = join(folder, `image-${i + 1}`);
    for (const path of new Set([...programs, ...libraries])) {
      mkdirSync(join(root, dirname(path)), { recursive: true });
      cpSync(path, join(root, path), { dereference: true });
    }
    cpSync(app, join(root, 'app'), { recursive: true, verbatimSymlinks: true });
    const archive = join(folder, `image-${i + 1}.tar`);
    await must('tar', ['-C', root, '-cf', archive, '.']);
    const image = `app:${i + 1}`;
    await docker('import', ...changes.flatMap((change) => ['--change', change]), archive, image);
    images.push(image);
  }
  return images;
}

async function startService(docker, image, environment) {
  const variables = {
    ...environment,
    NODE_ENV: 'production',
    HOST: '0.0.0.0',
    PORT: String(APP_PORT),
    HOLDFAST_RELEASE: 'v0',
  };
  const update = ['order=start-first', 'parallelism=2', 'monitor=1s'];
  const settings = [
    ...['--name', 'app', '--replicas', '2', '--network', 'web', '--endpoint-mode', 'dnsrr', '--no-resolve-image'],
    ...['--stop-grace-period', '20s', '--update-failure-action', 'rollback'],
    ...update.flatMap((setting) => ['update', 'rollback'].map((what) => `--${what}-${setting}`)),
    ...Object.entries(variables).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
  ];
  await docker('service', 'create', '--detach=false', '--quiet', ...settings, image, NODE, 'server/main.js');
}

async function startProxy(docker, image, folder) {
  const config = `global
 maxconn 4000
 nbthread 1
resolvers docker
 nameserver dns 127.0.0.11:53
 timeout resolve 1s
 timeout retry 1s
 hold valid 1s
 hold obsolete 1s
defaults
 mode http
 timeout connect 2s
 timeout client 60s
 timeout server 30s
 timeout tunnel 1h
frontend web
 bind :8000
 default_backend app
backend app
 option httpchk GET /readyz
 server-template s 6 tasks.app:${APP_PORT} check inter 1s resolvers docker init-addr none resolve-prefer ipv4
`;
  mkdirSync(join(folder, 'proxy'));
  writeFileSync(join(folder, 'proxy/haproxy.cfg'), config);
  const mounted = ['--volume', `${join(folder, 'proxy')}:/proxy:ro`];
  const published = ['--network', 'web', '--publish', `${GATEWAY}:${PORT}:8000`];
  const proxy = ['/usr/sbin/haproxy', '-W', '-f', '/proxy/haproxy.cfg'];
  await docker('run', '--detach', '--no-healthcheck', ...published, ...mounted, image, ...proxy);
  const ready = async () => (await fetch(`http://${GATEWAY}:${PORT}/readyz`)).ok;
  await eventually(ready, { ms: DAEMON_MS, everyMs: 200, what: 'the service behind HAProxy' });
}

if (process.argv[1] === SELF) {
  await inside(process.argv[2]);
  process.exit(0);
}
