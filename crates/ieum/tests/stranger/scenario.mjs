// Lets a test drive a client: a line of JSON in, `[number, what, ...with]`, and a line out, `[number, answer]` or `[number, null, code]`.
//
//   node --experimental-websocket scenario.mjs STORE ENDPOINT...
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';
import { Client } from './client.mjs';

const [file, ...endpoints] = process.argv.slice(2);
const client = new Client(file, endpoints);
const outcomes = new Map();
const refused = {};
let stopped;
client.on('refused', ({ code }) => (refused[code] = (refused[code] ?? 0) + 1));
client.on('outcome', ({ id, ...outcome }) => outcomes.set(id, outcome));
client.on('stopped', (problem) => {
  stopped = problem.code;
  client.emit('change');
});

// What the client holds, as a test looks at it.
function look(path) {
  const { account, last, seen, cursor, rooms, outbox } = client.state;
  const view = { account, last, seen, cursor, rooms, stopped, refused, waiting: outbox.length, connectedTo: client.connectedTo };
  view.counts = Object.fromEntries(Object.keys(rooms).map((id) => [id, counts(id)]));
  return path.reduce((value, name) => value?.[name], view);
}

// How many have not read each text.
function counts(id) {
  const texts = Object.values(client.rooms.get(id).messages).filter(({ text }) => text !== undefined);
  return Object.fromEntries(texts.map(({ seq }) => [seq, client.rooms.unreadBy(id, seq)]));
}

function until(isSo) {
  return new Promise((resolve) => {
    const check = () => {
      if (!isSo()) return;
      client.off('change', check);
      resolve();
    };
    client.on('change', check);
    check();
  });
}

const calls = {
  register: (person) => client.http.register(person),
  sign_in: (person) => client.http.signIn(person),
  get: (path) => client.http.get(path),
  start: () => void client.start(),
  stop: () => client.stop(),
  // Resolves when all are on disk.
  write: (changes) => Promise.all(changes.map((change) => client.write(change))),
  outcomes: (ids) => ids.map((id) => outcomes.get(id) ?? null),
  fill: (room) => client.fill(room),
  look: (path) => look(path),
  until: (path, wanted) => until(() => isDeepStrictEqual(look(path), wanted ?? undefined)),
  until_last: (room, last) => until(() => client.rooms.get(room)?.room.last >= last),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [number, what, ...withThese] = JSON.parse(line);
  const say = (...answer) => console.log(JSON.stringify([number, ...answer]));
  // Not awaited: a test may ask for something while another answer is still to come.
  Promise.resolve()
    .then(() => calls[what](...withThese))
    .then((answer) => say(answer ?? null), (error) => say(null, error.code ?? String(error.stack)));
}
process.exit(0);
