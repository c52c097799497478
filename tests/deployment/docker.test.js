// The image of docker/Dockerfile.prod: built and run with a Docker daemon of our own, on base images made here, so that no
// image registry is needed. Debian's mirror is. What takes long (base images, Docker's layers) is kept in
// build/docker-test/ for the next run.

import assert from 'node:assert/strict';
import { accessSync, constants, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually, freePort, run, startComponent, stopAll, temporaryFolder } from '../support/processes.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const KEPT = join(ROOT, 'build/docker-test');
const MIRROR = 'http://deb.debian.org/debian';
const LONG_MS = 12 * 60_000;
const VOLUME = 'holdfast-docker-test';
const CONTAINER = 'holdfast-docker-test';

function inPath(program) {
  const folders = [...process.env.PATH.split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function whyNot() {
  if (process.getuid() !== 0) return 'a Docker daemon can only be started as root';
  const missing = ['dockerd', 'docker', 'debootstrap'].filter((program) => !inPath(program));
  if (missing.length) return `${missing.join(' and ')} not installed (packages docker.io and debootstrap)`;
  if (existsSync(join(KEPT, 'base.tar'))) return undefined;
  const reached = await fetch(`${MIRROR}/dists/bookworm/Release`, { signal: AbortSignal.timeout(5000) }).catch(() => {});
  return reached?.ok ? undefined : `${MIRROR} cannot be reached, and no base image is kept from before`;
}

const skip = (await whyNot()) ?? false;

describe('the image', { skip }, () => {
  let port;
  let socket;

  const docker = async (args, options) => {
    const result = await run('docker', args, { env: { DOCKER_HOST: `unix://${socket}` }, ms: 60_000, ...options });
    return { ...result, text: `${result.stdout}${result.stderr}` };
  };
  const must = async (args, options) => {
    const result = await docker(args, options);
    assert.equal(result.status, 0, `docker ${args.join(' ')}\n${result.text.slice(-4000)}`);
    return result.stdout.trim();
  };
  const inContainer = (...args) => must(['exec', CONTAINER, ...args]);
  const get = (path) => fetch(`http://127.0.0.1:${port}${path}`);

  async function startDocker() {
    const folder = temporaryFolder('docker');
    socket = join(folder, 'socket');
    await startComponent({
      name: 'dockerd',
      command: 'dockerd',
      ready: /API listen on/,
      readyMs: 60_000,
      death: 'TERM',
      args: [
        ...['--host', `unix://${socket}`, '--data-root', join(KEPT, 'data'), '--exec-root', join(folder, 'exec')],
        ...['--pidfile', join(folder, 'pid'), '--iptables=false', '--bridge=none'],
      ],
    });
  }

  /** Debian 12, and the same with this machine's Node. */
  async function makeBaseImages() {
    const tar = join(KEPT, 'base.tar');
    const folder = join(temporaryFolder('base'), 'root');
    const had = existsSync(tar);
    const made = had
      ? await run('sh', ['-c', 'mkdir "$1" && tar -C "$1" -xf "$2"', 'sh', folder, tar], { ms: LONG_MS })
      : await run('debootstrap', ['--variant=minbase', 'bookworm', folder, MIRROR], { ms: LONG_MS });
    assert.equal(made.status, 0, made.stdout.slice(-2000) + made.stderr);
    if (!had) {
      const packed = await run('tar', ['-C', folder, '-cf', `${tar}.tmp`, '.'], { ms: LONG_MS });
      assert.equal(packed.status, 0, packed.stderr);
      await run('mv', [`${tar}.tmp`, tar]);
    }
    const path = '--change=ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    const import_ = async (name) => {
      if ((await docker(['image', 'inspect', name])).status === 0) return;
      const image = join(dirname(folder), 'image.tar');
      const packed = await run('tar', ['-C', folder, '-cf', image, '.'], { ms: LONG_MS });
      assert.equal(packed.status, 0, packed.stderr);
      await must(['import', path, image, name], { ms: LONG_MS });
    };
    await import_('holdfast-test/debian:12');
    cpSync(process.execPath, join(folder, 'usr/local/bin/node'));
    await import_(`holdfast-test/node:${process.versions.node}`);
  }

  /** The checkout's part that the image is made of, and the small application. */
  function makeContext(version) {
    const folder = temporaryFolder('context');
    for (const name of ['meson.build', 'meson_options.txt', '.dockerignore', 'src', 'fuzz', 'docker'])
      cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    cpSync(join(ROOT, 'tests/support/tiny-app'), join(folder, 'app'), { recursive: true });
    const file = join(folder, 'app/holdfast.yml');
    writeFileSync(file, readFileSync(file, 'utf8').replace('127.0.0.1:8080', `127.0.0.1:${port}`));
    writeFileSync(join(folder, 'app/version.txt'), `${version}\n`);
    return folder;
  }

  async function build(version) {
    const folder = makeContext(version);
    const image = `holdfast-test/tiny:${version}`;
    const args = { APP: 'app', BASE: 'holdfast-test/debian:12', NODE: `holdfast-test/node:${process.versions.node}` };
    await must(
      [
        ...['build', '--network', 'host', '-f', join(folder, 'docker/Dockerfile.prod'), '-t', image],
        ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
        folder,
      ],
      { ms: LONG_MS },
    );
    rmSync(folder, { recursive: true });
    return image;
  }

  async function start(image, api) {
    await must([
      ...['run', '-d', '--network', 'host', '--name', CONTAINER, '-v', `${VOLUME}:/var/lib/holdfast`],
      ...['--stop-timeout', '30', image, '--listen', `127.0.0.1:${api}`],
    ]);
    await eventually(async () => (await fetch(`http://127.0.0.1:${api}/readyz`)).ok, {
      ms: 20_000,
      what: 'the readiness of Holdfast in the container',
    }).catch(async (error) => {
      throw new Error(`${error.message}; it said:\n${(await docker(['logs', CONTAINER])).text}`);
    });
  }

  before(
    async () => {
      mkdirSync(KEPT, { recursive: true });
      port = await freePort();
      await startDocker();
      await docker(['rm', '-f', CONTAINER]);
      await docker(['volume', 'rm', '-f', VOLUME]);
      await makeBaseImages();
    },
    { timeout: LONG_MS },
  );
  after(async () => {
    if (socket) {
      await docker(['rm', '-f', CONTAINER]);
      await docker(['volume', 'rm', '-f', VOLUME]);
    }
    await stopAll();
  });

  test('serves the packed application, ends without losing a request, and is upgraded', { timeout: LONG_MS }, async () => {
    const api = await freePort();
    const first = await build('1.0.0');

    const secrets = await must([
      ...['run', '--rm', '--network', 'host', '--user', 'root', '--entrypoint', 'sh', first, '-c'],
      "find / -xdev \\( -name 'artifact.key' -o -name 'secret.key' -o -name 'admin.token' \\) -print",
    ]);
    assert.equal(secrets, '', 'the image holds secrets');

    await start(first, api);
    assert.equal(await inContainer('id', '-un'), 'holdfast');
    assert.match(await inContainer('deploy-packed', 'production'), /Release 1 serves production/);
    assert.equal((await (await get('/')).json()).version, '1.0.0');

    const health = JSON.parse(await must(['inspect', '--format', '{{json .Config.Healthcheck.Test}}', CONTAINER]));
    await inContainer('sh', '-c', health[1]);

    const slow = get('/slow?ms=2000');
    await eventually(async () => /\b1 +0 +\S/.test(await inContainer('holdfast', 'status')), {
      what: 'the slow request in the status',
    });
    await must(['stop', CONTAINER]);
    assert.equal((await slow).status, 200, 'a request in flight was cut by docker stop');
    assert.equal(await must(['inspect', '--format', '{{.State.ExitCode}}', CONTAINER]), '0');

    await must(['start', CONTAINER]);
    await eventually(async () => (await get('/')).ok, { ms: 20_000, what: 'the application after docker start' });

    await must(['rm', '-f', CONTAINER]);
    await start(await build('2.0.0'), api);
    await eventually(async () => (await get('/')).ok, { ms: 20_000, what: 'release 1 on the second image' });
    assert.equal((await (await get('/')).json()).version, '1.0.0');
    assert.match(await inContainer('deploy-packed', 'production'), /Release 2 serves production/);
    assert.equal((await (await get('/')).json()).version, '2.0.0');
    assert.match(await inContainer('holdfast', 'rollback', 'production'), /Release 1 serves production/);
    assert.equal((await (await get('/')).json()).version, '1.0.0');
  });
});
