// What a client keeps on its device: one JSON file, replaced as a whole, so that several things change together.
// A client with much to keep takes a database; what matters is that the outbox, the numbers, the cursor and the copy are in one.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const LATER_MS = 50;

export class Store {
  #file;
  #waiting = [];
  #timer;

  constructor(file) {
    this.#file = file;
    this.state = {
      account: undefined, // { user, device, secret }
      attempt: undefined, // a registration or sign-in without an answer yet: its key and its secret
      outbox: [], // commands without an outcome, by number: { n, id, change }
      done: [], // commands answered `ok` lately: { n, id, change, at }
      last: 0, // the last number given
      answered: 0, // the highest number answered
      seen: undefined, // the highest position seen anywhere
      cursor: undefined, // up to where `rooms` is complete
      rooms: {}, // by id: { room, messages by seq, receipts by user, gap }
      ...(existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}),
    };
  }

  // Resolves when all that is in the state now is on disk. Calls of one turn of the event loop share one write.
  save() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#write());
    });
  }

  // For what may be lost, because the server tells it again: an answer, an event.
  saveLater() {
    this.#timer ??= setTimeout(() => this.#write(), LATER_MS);
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      const next = `${this.#file}.new`;
      const file = openSync(next, 'w', 0o600);
      writeFileSync(file, JSON.stringify(this.state));
      fsyncSync(file);
      closeSync(file);
      renameSync(next, this.#file);
      const folder = openSync(dirname(this.#file), 'r');
      fsyncSync(folder);
      closeSync(folder);
    } catch (error) {
      for (const { reject } of waiting) reject(error);
      if (waiting.length === 0) throw error;
      return;
    }
    for (const { resolve } of waiting) resolve();
  }

  // Remembers a position, whoever named it (README, "Positions").
  see(position) {
    if (position !== undefined && isHigher(position, this.state.seen)) this.state.seen = position;
  }
}

function isHigher(one, other) {
  const [a, b] = [one, other].map((text) => /^(\d+)\.(\d+)$/.exec(text ?? ''));
  // A form of a later version: the one that came later.
  if (!a || !b) return true;
  const [generation, ordinal] = [1, 2].map((part) => BigInt(a[part]) - BigInt(b[part]));
  return generation === 0n ? ordinal > 0n : generation > 0n;
}
