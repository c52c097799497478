// Builds: what did not change is not built again, what did always is; what is not fit to be served is no artifact.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Site, tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { eventually, stopAll, temporaryFolder } from '../support/processes.js';

const tools = temporaryFolder('tools', 0o755);
const setTool = (version) => {
  const file = join(tools, 'faketool');
  writeFileSync(`${file}.new`, `#!/bin/sh\necho faketool ${version}\n`);
  chmodSync(`${file}.new`, 0o755);
  renameSync(`${file}.new`, file);
};

let holdfast;
before(async () => {
  setTool('1.0');
  holdfast = await startHoldfast({ env: { PATH: `${tools}:${process.env.PATH}` } });
});
after(stopAll);

/** Runs `holdfast build`, which has to succeed: {artifact, key, reused, duration_ms}. */
async function built(site) {
  const result = await site.start('build').end;
  assert.equal(result.status, 0, result.stderr + result.text);
  return result.operation.result;
}

/** …which has to fail. */
async function notBuilt(site) {
  const result = await site.start('build').end;
  assert.equal(result.status, 1, result.text);
  assert.equal(result.operation.state, 'failed');
  return result;
}

async function countingSite() {
  const site = await tinySite(holdfast, { variables: { BUILD_TITLE: 'one', OTHER: 'x' } });
  const counter = join(temporaryFolder('counter', 0o777), 'runs');
  writeFileSync(counter, '');
  chmodSync(counter, 0o666);
  site.app.set(['build', 'tools'], ['node', 'faketool']);
  site.app.set(['build', 'variables'], ['BUILD_TITLE']);
  site.app.set(['build', 'exclude'], ['notes']);
  site.app.set(['build', 'steps'], [{ name: 'make', run: `echo run >> ${counter}; echo "$BUILD_TITLE" > made.txt; cat data/* >> made.txt 2>&1; true` }]);
  site.app.set(['build', 'include'], ['*.js', 'version.txt', 'package.json', 'made.txt']);
  mkdirSync(join(site.app.folder, 'data'));
  mkdirSync(join(site.app.folder, 'notes'));
  site.app.write('data/one', 'first\n');
  site.app.write('notes/today', 'nothing\n');
  site.app.write('package-lock.json', '{"name":"tiny","lockfileVersion":3,"packages":{"":{"name":"tiny","version":"1.0.0"}}}\n');
  symlinkSync('one', join(site.app.folder, 'data/link'));
  return { site, runs: () => readFileSync(counter, 'utf8').split('\n').length - 1 };
}

test('an unchanged build is reused, in at most 50 ms; so is one whose times, spelling and other variables changed', async () => {
  const { site, runs } = await countingSite();
  const first = await built(site);
  assert.equal(first.reused, false);
  const durations = [];
  for (let i = 0; i < 5; i += 1) {
    const again = await built(site);
    assert.deepEqual([again.reused, again.artifact, again.key], [true, first.artifact, first.key]);
    durations.push(again.duration_ms);
  }
  assert.ok(Math.min(...durations) <= 50, `reused after ${durations} ms`);
  utimesSync(join(site.app.folder, 'main.js'), 1, 1);
  site.app.write('holdfast.yml', `# another comment\n${site.app.read('holdfast.yml')}\n`);
  site.app.set(['environments', 'production', 'variables', 'OTHER'], 'y');
  site.app.write('notes/today', 'something\n');
  const same = await built(site);
  assert.deepEqual([same.reused, same.artifact], [true, first.artifact]);
  assert.equal(runs(), 1, 'the step ran once');
});

const path = (site, name) => join(site.app.folder, name);

// Each is a change that must never be answered from the cache.
const CHANGES = {
  'one byte of a file': (site) => site.app.write('data/one', 'First\n'),
  'the mode of a file': (site) => chmodSync(path(site, 'data/one'), 0o755),
  'a file more': (site) => site.app.write('data/two', 'second\n'),
  'an empty file more': (site) => site.app.write('data/empty', ''),
  'a file less': (site) => rmSync(path(site, 'data/one')),
  'a file renamed': (site) => renameSync(path(site, 'data/one'), path(site, 'data/uno')),
  'an empty folder more': (site) => mkdirSync(path(site, 'data/folder')),
  'where a link leads': (site) => {
    rmSync(path(site, 'data/link'));
    symlinkSync('../version.txt', path(site, 'data/link'));
  },
  'a link replaced by what it led to': (site) => {
    rmSync(path(site, 'data/link'));
    site.app.write('data/link', 'first\n');
  },
  'content moved between two files': (site) => {
    site.app.write('version.txt', '1.0.0\nf');
    site.app.write('data/one', 'irst\n');
  },
  'the lock file': (site) => site.app.edit('package-lock.json', '"version":"1.0.0"', '"version":"1.0.1"'),
  'a declared variable': (site) => site.app.set(['environments', 'production', 'variables', 'BUILD_TITLE'], 'two'),
  'a declared variable emptied': (site) => site.app.set(['environments', 'production', 'variables', 'BUILD_TITLE'], ''),
  'a variable more declared': (site) => site.app.set(['build', 'variables'], ['BUILD_TITLE', 'OTHER']),
  'the version of a tool': () => setTool(`1.${Date.now()}`),
  'a tool less': (site) => site.app.set(['build', 'tools'], ['node']),
  'the command of a step': (site) => site.app.edit('holdfast.yml', 'cat data/*', 'cat ./data/*'),
  'a step more': (site) =>
    site.app.set(['build', 'steps'], [...stepsOf(site), { name: 'more', run: 'true' }]),
  'what the artifact includes': (site) => site.app.set(['build', 'include'], ['*.js', 'version.txt', 'package.json', 'made.txt', 'data']),
  'what is excluded': (site) => site.app.set(['build', 'exclude'], []),
  'a budget': (site) => site.app.set(['build', 'budgets'], [{ files: 'made.txt', size_max: '1KiB' }]),
  'the name of the application': (site) => site.app.set(['app'], `${site.name}-more`),
};
const stepsOf = (site) => JSON.parse(/^ {2}steps: (.*)$/m.exec(site.app.read('holdfast.yml'))[1]);

test('a changed input is never answered from the cache', async (t) => {
  const { site } = await countingSite();
  const whole = join(temporaryFolder('whole'), 'app');
  cpSync(site.app.folder, whole, { recursive: true, verbatimSymlinks: true });
  const keys = new Map([[(await built(site)).key, 'nothing']]);
  for (const [name, change] of Object.entries(CHANGES)) {
    await t.test(name, async () => {
      try {
        change(site);
        const { key, reused } = await built(site);
        assert.equal(reused, false);
        assert.equal(keys.get(key), undefined, `the same key as for: ${keys.get(key)}`);
        keys.set(key, name);
      } finally {
        rmSync(site.app.folder, { recursive: true });
        cpSync(whole, site.app.folder, { recursive: true, verbatimSymlinks: true });
        setTool('1.0');
      }
      assert.equal((await built(site)).reused, true, 'and back again it is the first one');
    });
  }
});

test('an undeclared variable does not reach a step, a declared one does', async () => {
  const { site } = await countingSite();
  site.app.set(['build', 'steps'], [{ name: 'env', run: 'env | sort > made.txt; cat made.txt' }]);
  const result = await site.start('build').end;
  assert.equal(result.status, 0, result.text);
  const lines = result.events.filter(({ event }) => event === 'output').map(({ message }) => message);
  assert.ok(lines.includes('BUILD_TITLE=one'), lines.join('\n'));
  assert.ok(!lines.some((line) => /^(OTHER|STATE|HOLDFAST_DATA)=/.test(line)), lines.join('\n'));
});

test('two installations, at different paths and times, make the same bytes', async () => {
  const { site } = await countingSite();
  const other = await startHoldfast({ env: { PATH: `${tools}:${process.env.PATH}` } });
  const moved = join(temporaryFolder('a-longer-name-of-a-folder', 0o755), 'deeper', 'app');
  mkdirSync(dirname(moved));
  cpSync(site.app.folder, moved, { recursive: true, verbatimSymlinks: true });
  utimesSync(join(moved, 'main.js'), 12_345, 12_345);
  const twin = new Site({ holdfast: other, app: { folder: moved }, port: site.port, name: site.name });
  const [one, two] = [await built(site), await built(twin)];
  assert.equal(two.artifact, one.artifact);
  assert.equal(two.key, one.key);
  const [a, b] = [holdfast, other].map(({ data }) =>
    createHash('sha256').update(readFileSync(join(data, 'artifacts', `${one.artifact.replace(':', '-')}.tar.zst`))).digest('hex'),
  );
  assert.equal(a, b);
  await other.close();
});

test('a step with inputs and outputs is reused by itself', async () => {
  const { site } = await countingSite();
  const counter = join(temporaryFolder('steps', 0o777), 'runs');
  writeFileSync(counter, '');
  chmodSync(counter, 0o666);
  const steps = [
    { name: 'first', run: `echo first >> ${counter}; mkdir -p out; cp data/one out/a`, inputs: ['data/**'], outputs: ['out'] },
    { name: 'second', run: `echo second >> ${counter}; cat out/a version.txt > made.txt` },
  ];
  site.app.set(['build', 'steps'], steps);
  const ran = async () => {
    const before_ = readFileSync(counter, 'utf8').length;
    await built(site);
    return readFileSync(counter, 'utf8').slice(before_).split('\n').filter(Boolean);
  };
  assert.deepEqual(await ran(), ['first', 'second']);
  site.app.setVersion('1.0.1');
  assert.deepEqual(await ran(), ['second']);
  site.app.write('data/one', 'changed\n');
  assert.deepEqual(await ran(), ['first', 'second']);
  site.app.write('data/one', 'first\n');
  site.app.setVersion('1.0.2');
  assert.deepEqual(await ran(), ['second'], 'what the first made of it is still known');
});

test('a step that fails ends the build, and its last lines tell why', async () => {
  const { site } = await countingSite();
  site.app.set(['build', 'steps'], [{ name: 'compile', run: 'echo cannot find module left-pad >&2; exit 5' }]);
  const result = await notBuilt(site);
  assert.match(result.reason, /compile/);
  assert.match(result.reason, /5/);
  assert.match(result.text, /cannot find module left-pad/);
  const again = await notBuilt(site);
  assert.match(again.text, /cannot find module left-pad/, 'a failure is not kept');
});

test('a step past its memory, or past the time of the build, is killed with all it started', async () => {
  const { site } = await countingSite();
  site.app.set(['build', 'memory'], '128MiB');
  const hog = "const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1));";
  site.app.set(['build', 'steps'], [{ name: 'hog', run: `node -e '${hog}'` }]);
  const began = Date.now();
  const memory = await notBuilt(site);
  assert.ok(Date.now() - began < 30_000);
  assert.match(memory.reason, /memory/, memory.reason);
  site.app.set(['build', 'memory'], '1GiB');
  site.app.set(['build', 'timeout'], '1s');
  site.app.set(['build', 'steps'], [{ name: 'endless', run: 'setsid sleep 88.8 & sleep 88.8' }]);
  const time = await notBuilt(site);
  assert.match(time.reason, /endless/);
  assert.match(time.reason, /took longer than the 1s of build\.timeout/);
  const sleepers = () => holdfast.processes().filter(({ argv }) => argv.join(' ') === 'sleep 88.8');
  await eventually(() => sleepers().length === 0, { ms: 3000, what: 'the end of what the step started' });
});

/** An application with a public folder of these files; `steps` may be what makes more. */
async function publicSite(files, { secrets } = {}) {
  const site = await tinySite(holdfast, { secrets });
  site.app.set(['build', 'public'], 'public');
  site.app.set(['build', 'include'], ['*.js', 'version.txt', 'package.json', 'public']);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(path(site, `public/${name}`)), { recursive: true });
    site.app.write(`public/${name}`, text);
  }
  return site;
}

const PAGE = '<!doctype html>\n<html>\n<script src="/app.js"></script>\n</html>\n';

/** The build fails, and one of its warnings is about `place` ("file:line") and matches. */
async function unfit(site, place, message) {
  const result = await notBuilt(site);
  const warnings = result.events.filter(({ event }) => event === 'warning').map((event) => event.message);
  const found = warnings.find((warning) => warning.startsWith(`${place}: `));
  assert.ok(found, `${place} is not among: ${warnings.join('\n')}`);
  assert.match(found, message);
  assert.match(result.reason, /not fit to be served/);
  return result;
}

test('what is fit to be served is built', async () => {
  const site = await publicSite({ 'index.html': PAGE, 'app.js': 'console.log(1)\n' });
  site.app.set(['build', 'budgets'], [{ files: 'public/**/*.js', size_max: '1KiB', gzip_max: '1KiB', brotli_max: '1KiB' }]);
  await built(site);
});

test('a size budget that is exceeded', async () => {
  const site = await publicSite({ 'index.html': PAGE, 'app.js': 'x'.repeat(3000) });
  site.app.set(['build', 'budgets'], [{ files: 'public/**/*.js', size_max: '2KiB' }]);
  const result = await notBuilt(site);
  assert.match(result.text, /public\/\*\*\/\*\.js/);
  assert.match(result.text, /2(\.0+)? KiB/);
});

test('a source map', async () => {
  const site = await publicSite({ 'index.html': PAGE, 'app.js': 'let a;\n//# sourceMappingURL=app.js.map\n', 'app.js.map': '{"version":3,"sources":[],"mappings":""}' });
  await unfit(site, 'public/app.js:2', /source.?map/i);
});

test('a secret', async () => {
  const site = await publicSite(
    { 'index.html': PAGE, 'app.js': '// nothing\nconst key = "correct-horse-battery";\n' },
    { secrets: ['API_KEY'] },
  );
  await holdfast.setSecrets('production', { API_KEY: 'correct-horse-battery' }, { cwd: site.app.folder });
  const result = await unfit(site, 'public/app.js:2', /API_KEY/);
  assert.doesNotMatch(JSON.stringify(result.events), /correct-horse-battery/);
});

test('an asset that is missing', async () => {
  const site = await publicSite({ 'index.html': PAGE });
  await unfit(site, 'public/index.html:3', /app\.js/);
});

test('an artifact comes with provenance and a bill of materials', async () => {
  const { site } = await countingSite();
  site.app.write(
    'package-lock.json',
    JSON.stringify({
      name: 'tiny',
      version: '1.0.0',
      lockfileVersion: 3,
      packages: {
        '': { name: 'tiny', version: '1.0.0', dependencies: { ms: '2.1.3' } },
        'node_modules/ms': { version: '2.1.3', resolved: 'https://registry.npmjs.org/ms/-/ms-2.1.3.tgz', license: 'MIT' },
      },
    }),
  );
  const { artifact } = await built(site);
  const provenance = await site.ask(['artifact', artifact, 'provenance']);
  assert.equal(provenance._type, 'https://in-toto.io/Statement/v1');
  assert.equal(provenance.predicateType, 'https://slsa.dev/provenance/v1');
  assert.equal(provenance.subject[0].digest.sha256, artifact.replace('sha256:', ''));
  const { buildDefinition, runDetails } = provenance.predicate;
  assert.ok(buildDefinition.buildType && buildDefinition.externalParameters);
  assert.ok(buildDefinition.resolvedDependencies.length > 0);
  assert.ok(runDetails.builder.id);
  assert.ok(Date.parse(runDetails.metadata.startedOn) <= Date.parse(runDetails.metadata.finishedOn));
  const sbom = await site.ask(['artifact', artifact, 'sbom']);
  assert.equal(sbom.bomFormat, 'CycloneDX');
  assert.match(sbom.specVersion, /^1\.[4-7]$/);
  const [ms] = sbom.components.filter(({ name }) => name === 'ms');
  assert.deepEqual([ms.version, ms.purl], ['2.1.3', 'pkg:npm/ms@2.1.3']);
  const prefix = await site.ask(['artifact', artifact.slice(7, 19), 'sbom']);
  assert.deepEqual(prefix, sbom);
});

test('builds leave no working copies behind', async () => {
  const folder = join(holdfast.data, 'builds/work');
  assert.deepEqual(existsSync(folder) ? readdirSync(folder) : [], []);
});
