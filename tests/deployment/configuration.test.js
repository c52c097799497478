// A wrong holdfast.yml: each mistake with its line, column and a suggestion, and nothing is changed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { stopAll } from '../support/processes.js';

let holdfast;
let site;
let good;
let token;
before(async () => {
  holdfast = await startHoldfast();
  site = await tinySite(holdfast);
  await site.deployed();
  good = site.app.read('holdfast.yml');
  token = (await site.ask(['token', 'create', 'tests', '--role', 'admin'])).text;
});
after(stopAll);

// What to write instead of what, where the mistake then is (the text of its line, and what its column begins with), and
// what is said.
const MISTAKES = [
  ['an unknown option', /instances: 1/, 'instnces: 1', 'instnces', /unknown option; did you mean instances\?/],
  ['an unknown option of the file', /^services:/m, 'servces:', 'servces', /did you mean services\?/],
  ['a word instead of a number', /instances: 1/, 'instances: many', 'many', /number/],
  ['a number out of its range', /instances: 1/, 'instances: 65', '65', /1 to 64/],
  ['a duration without its unit', /ready_timeout: 5s/, 'ready_timeout: 5', '5', /duration|5s/],
  ['a duration out of its range', /ready_timeout: 5s/, 'ready_timeout: 2h', '2h', /100ms to 1h/],
  ['a signal that does not exist', /drain_signal: SIGUSR2/, 'drain_signal: SIGUSR3', 'SIGUSR3', /did you mean SIGUSR[12]\?/],
  ['a path without its slash', /ready: \/readyz/, 'ready: readyz', 'readyz', /\//],
  ['a truth value misspelt', /traffic: true/, 'traffic: yess', 'yess', /true or false/],
  ['a status that is none', /status: 200/, 'status: 999', '999', /100 to 599/],
  ['an option given twice', /watch: 0s/, 'watch: 0s\n  watch: 1s', 'watch', /twice|already|again|duplicate/i, 'watch: 1s'],
  ['an address without a port', /listen: .*/, 'listen: localhost', 'localhost', /address:port|port/],
  ['a variable name that is none', /STATE:/, '9STATE:', '9STATE', /variable|name/],
  ['a name with capital letters', /^app: .*/m, 'app: Tiny', 'Tiny', /a-z/],
  ['an anchor', /command: \[node, main.js\]/, 'command: &x [node, main.js]', '&x', /anchor/i],
  ['a list where options belong', /^ {2}web:/m, '  - web:', '- web', /list|map|options/i],
];

for (const [name, from, to, at, message, line = to.split('\n')[0].trim()] of MISTAKES) {
  test(`${name}: told by line and column, by the command line and by the daemon`, async () => {
    const before_ = { releases: await site.releases(), status: await site.status(), audit: await audit() };
    const text = good.replace(from, to);
    assert.notEqual(text, good);
    site.app.write('holdfast.yml', text);
    const lines = text.split('\n');
    const row = lines.findIndex((l) => l.trim() === line || l.trim().startsWith(line));
    const column = lines[row].indexOf(at, lines[row].indexOf(line)) + 1;
    const place = `holdfast.yml:${row + 1}:${column}: `;
    for (const args of [['config', 'check'], ['deploy', 'production'], ['build', 'production']]) {
      const result = await site.run(args);
      assert.notEqual(result.status, 0, args.join(' '));
      const said = result.stdout + result.stderr;
      assert.ok(said.includes(place), `${place} is not in: ${said}`);
      assert.match(said, message);
    }
    // who asks the daemon directly hears the same
    const direct = await post('/holdfast/v1/deploys', { specification: text, file: 'holdfast.yml', environment: 'production', source: site.app.folder });
    assert.equal(direct.status, 400, JSON.stringify(direct.body));
    assert.ok(direct.body.error.message.includes(place), direct.body.error.message);
    site.app.write('holdfast.yml', good);
    const { audit: entries, ...rest } = before_;
    assert.deepEqual({ releases: await site.releases(), status: await site.status() }, rest);
    const refused = (await audit()).filter(({ sequence }) => !entries.some((entry) => entry.sequence === sequence));
    assert.ok(refused.every(({ outcome }) => outcome !== 'ok'), 'no operation was begun');
  });
}

test('several mistakes are told at once', async () => {
  site.app.write('holdfast.yml', good.replace('instances: 1', 'instnces: 1').replace('retain: 5', 'retain: 0').replace('status: 200', 'status: x'));
  const { stderr, stdout, status } = await site.run(['config', 'check']);
  assert.equal(status, 1);
  assert.equal((stdout + stderr).match(/^(holdfast: )?holdfast\.yml:\d+:\d+: /gm)?.length, 3, stdout + stderr);
  site.app.write('holdfast.yml', good);
});

test('an environment that does not exist is suggested', async () => {
  for (const command of ['deploy', 'build']) {
    const result = await site.run([command, 'prodction']);
    assert.equal(result.status, 1);
    assert.match(result.stderr, /did you mean production\?/, command);
  }
  const rollback = await site.run(['rollback', 'prodction']); // it may have left the file, and still have releases
  assert.equal(rollback.status, 1);
  assert.match(rollback.stderr, /no release serves prodction/);
});

test('a folder without holdfast.yml, and a file that is no YAML', async () => {
  const none = await holdfast.run(['deploy', 'production'], { cwd: '/' });
  assert.equal(none.status, 1);
  assert.match(none.stderr, /there is no \/\/?holdfast\.yml.*-C FOLDER/);
  site.app.write('holdfast.yml', 'app: [tiny\nservices: {');
  const broken = await site.run(['deploy', 'production']);
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /holdfast\.yml:\d+:\d+: /);
  site.app.write('holdfast.yml', good);
});

async function audit() {
  return (await site.ask(['audit'])).audit;
}

async function post(path, body) {
  const response = await fetch(`${holdfast.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}
