// What is written is what the program does: generated pages equal its output, completions parse, the README's
// commands exist and its walk from an empty folder works as it stands there.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HOLDFAST, startHoldfast } from '../support/holdfast.js';
import { freePort, run, stopAll, temporaryFolder } from '../support/processes.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (path) => readFileSync(join(ROOT, path), 'utf8');

after(stopAll);

async function holdfast(...args) {
  const result = await run(HOLDFAST, args);
  assert.equal(result.status, 0, `holdfast ${args.join(' ')}: ${result.stderr}`);
  assert.equal(result.stderr, '');
  return result.stdout;
}

const has = async (program) => (await run('sh', ['-c', `command -v ${program}`])).status === 0;

/** Blocks of ```LANGUAGE in a text. */
const blocks = (text, language) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, block]) => block);

test('generated pages equal what the program prints', async () => {
  const renew = 'renew it: holdfast';
  assert.equal(read('docs/reference/holdfast.1'), await holdfast('manual'), `${renew} manual > docs/reference/holdfast.1`);
  assert.equal(
    read('docs/reference/holdfast-yml.md'),
    await holdfast('config', 'reference'),
    `${renew} config reference > docs/reference/holdfast-yml.md`,
  );
  JSON.parse(await holdfast('config', 'schema'));
});

test('the manual page renders without a warning', async (t) => {
  if (!(await has('groff'))) return t.skip('groff is not installed');
  const { status, stdout, stderr } = await run('groff', ['-man', '-ww', '-Tutf8', '-P-cbou'], { input: await holdfast('manual') });
  assert.equal(status, 0);
  assert.equal(stderr, '');
  assert.match(stdout, /holdfast deploy ENV/);
  return undefined;
});

for (const shell of ['bash', 'zsh'])
  test(`completions parse in ${shell}`, async (t) => {
    if (!(await has(shell))) return t.skip(`${shell} is not installed`);
    const result = await run(shell, ['-n'], { input: await holdfast('completion', shell) });
    assert.equal(result.status, 0, result.stderr);
    assert.equal(result.stderr, '');
    return undefined;
  });

test('bash completes commands, groups and options', async () => {
  const folder = temporaryFolder('completion');
  writeFileSync(join(folder, 'completion'), await holdfast('completion', 'bash'));
  const complete = async (...words) => {
    const list = words.map((word) => `'${word}'`).join(' ');
    const script = `. ./completion; COMP_WORDS=(holdfast ${list}); COMP_CWORD=${words.length}; _holdfast; echo "\${COMPREPLY[*]}"`;
    return (await run('bash', ['-c', script], { cwd: folder })).stdout.trim().split(' ');
  };
  assert.deepEqual(await complete('depl'), ['deploy']);
  assert.deepEqual(await complete('token', ''), ['create', 'list', 'revoke']);
  assert.deepEqual(await complete('deploy', 'production', '--dry'), ['--dry-run']);
});

test('the commands in README and docs exist', async () => {
  const help = await holdfast('--help');
  const texts = ['README.md', 'docs/ARCHITECTURE.md', 'docker/README.md', 'CONTRIBUTING.md'].map(read);
  const makefile = read('Makefile');
  for (const text of texts) {
    const code = [...blocks(text, 'sh'), ...[...text.matchAll(/`([^`\n]+)`|^ {4}(.*)$/gm)].map((m) => m[1] ?? m[2])];
    for (const line of code.flatMap((block) => block.split('\n'))) {
      const command = /^(?:\$ )?holdfast ((?:config|secret|token) [a-z]+|[a-z]+)/.exec(line)?.[1];
      if (command && !['manual', 'help', 'shim', 'demo'].includes(command))
        assert.match(help, new RegExp(`^ {2}${command} `, 'm'), `holdfast ${command}, from: ${line}`);
      const target = /^make ([a-z-]+)/.exec(line)?.[1];
      if (target) assert.match(makefile, new RegExp(`^${target}:`, 'm'), `make ${target}`);
      const script = /(?:^|\s)(scripts\/[a-z.-]+)/.exec(line)?.[1];
      if (script) assert.ok(existsSync(join(ROOT, script.replace(/\.$/, ''))), script);
    }
  }
});

test('links in README and docs lead somewhere', () => {
  for (const page of ['README.md', 'docs/ARCHITECTURE.md', 'docker/README.md', 'CONTRIBUTING.md', 'docs/format/artifact.md'])
    for (const [, target] of read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      assert.ok(existsSync(join(ROOT, dirname(page), target)), `${page} links to ${target}`);
});

test('every script shows its usage and does nothing', async () => {
  for (const name of readdirSync(join(ROOT, 'scripts')).filter((file) => /\.sh$|^demo$/.test(file))) {
    const result = await run(join(ROOT, 'scripts', name), ['--help'], { env: { HOLDFAST: '/nonexistent' } });
    assert.equal(result.status, 0, `${name}: ${result.stderr}`);
    assert.match(result.stdout, new RegExp(`scripts/${name}`));
  }
});

test('the walk of the README works as it is written', async () => {
  const walk = read('README.md').split(/^## /m).find((part) => part.startsWith('Five minutes'));
  const [make, serve, ...rest] = blocks(walk, 'sh');
  assert.equal(serve.trim(), 'holdfast serve');
  const port = await freePort();
  const daemon = await startHoldfast(); // in place of the second block, so that the machine's own port stays free

  const folder = temporaryFolder('walk', 0o711);
  symlinkSync(HOLDFAST, join(folder, 'holdfast'));
  writeFileSync(join(folder, 'walk.sh'), ['set -eu', make, ...rest].join('\n').replaceAll('8088', String(port)));
  const { status, stdout, stderr } = await run('bash', ['walk.sh'], {
    cwd: folder,
    env: { ...daemon.environment(), PATH: `${folder}:${process.env.PATH}` },
    ms: 120_000,
  });
  assert.equal(status, 0, stdout + stderr);
  const told = [
    'holdfast.yml is right',
    'Release 1 serves production',
    'Hello from release 1',
    'Release 2 serves production',
    'Good day from release 2',
    'APP',
    'Release 1 serves production',
    'Hello from release 1',
    'Release 2 serves production',
  ];
  let at = 0;
  for (const text of told) {
    const found = stdout.indexOf(text, at);
    assert.ok(found >= 0, `"${text}" is missing after\n${stdout.slice(0, at)}\nin\n${stdout.slice(at)}\n${stderr}`);
    at = found + text.length;
  }

  // "Now break server.js and deploy …"
  writeFileSync(join(folder, 'hello/server.js'), "console.error('broken on purpose');\nprocess.exit(3);\n");
  const broken = await daemon.run(['deploy', 'production'], { cwd: join(folder, 'hello') });
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /broken on purpose/);
  const page = await fetch(`http://127.0.0.1:${port}/`);
  assert.equal(await page.text(), 'Good day from release 2\n');
  // "Stop the daemon: curl still works."
  await daemon.stop();
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200);
  await daemon.close();
});
