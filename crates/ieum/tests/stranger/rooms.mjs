// The copy of the rooms, as the stream tells it (objects.md, delivery.md "Catch-up"). All of it is applied by room and seq: what comes a
// second time changes nothing.
export class Rooms {
  #state;
  #late = new Map(); // by room, while a page is on its way: changes of messages that are not held yet

  constructor(state) {
    this.#state = state;
  }

  get(id) {
    return this.#state.rooms[id];
  }

  clear() {
    this.#state.rooms = {};
  }

  catchUp({ rooms = [], left = [] }) {
    for (const part of rooms) {
      const held = part.fresh ? undefined : this.get(part.room.id);
      const entry = held ?? { messages: {}, receipts: {} };
      entry.room = part.room;
      entry.gap ||= part.gap;
      for (const message of part.messages ?? []) {
        entry.messages[message.seq] = message;
        moveReceipts(entry, message);
      }
      for (const message of part.changed ?? []) this.#replace(entry, message);
      for (const { user, seq } of part.receipts ?? []) entry.receipts[user] = seq;
      this.#state.rooms[part.room.id] = entry;
    }
    for (const id of left) delete this.#state.rooms[id];
  }

  // One event of the stream. One that is unknown, or of a room that is not held, is passed over.
  apply(event) {
    const [[kind, what]] = Object.entries(event);
    if (kind === 'joined') {
      this.#state.rooms[what.room.id] = { room: what.room, messages: {}, receipts: {} };
      return;
    }
    const entry = this.get(what.room);
    if (!entry) return;
    const { room: id, ...rest } = what;
    if (kind === 'message') this.#message(entry, rest);
    else if (kind === 'changed') this.#replace(entry, rest);
    else if (kind === 'receipt') this.#receipt(entry, rest);
    else if (kind === 'left') delete this.#state.rooms[id];
    else if (kind === 'archived') Object.assign(entry, { gap: true, room: { ...entry.room, last: rest.last } });
  }

  #message(entry, message) {
    const { room } = entry;
    entry.messages[message.seq] = message;
    if (message.seq <= room.last) return; // counted before
    room.last = message.seq;
    room.last_time = message.time;
    moveReceipts(entry, message);
    if (message.system) this.#system(room, message);
    else if (message.text === undefined) return;
    else if (message.from === this.#state.account.user) Object.assign(room, { read: message.seq, unread: 0 });
    else room.unread += 1;
  }

  #system(room, { from, system }) {
    const me = this.#state.account.user;
    const [kind, what] = typeof system === 'string' ? [system] : Object.entries(system)[0];
    // One that names me was counted in `joined`.
    if (kind === 'invited') room.members += what.users.includes(me) ? 0 : what.users.length;
    else if (kind === 'left' || kind === 'removed') room.members -= 1;
    else if (kind === 'renamed') room.name = what.name;
    else if (kind === 'role_given') {
      if (what.role === 'owner' && from === me) room.role = 'manager';
      if (what.user === me) room.role = what.role;
    }
  }

  #receipt(entry, { user, seq }) {
    const { room } = entry;
    entry.receipts[user] = Math.max(seq, entry.receipts[user] ?? 0);
    if (user !== this.#state.account.user || seq <= room.read) return;
    room.read = seq;
    this.recount(entry);
  }

  // How many of the messages behind `read` count. `undefined` until those that are missing are paged in.
  recount(entry) {
    const { read, last } = entry.room;
    const behind = Array.from({ length: last - read }, (_, at) => entry.messages[read + 1 + at]);
    const counting = behind.filter((message) => message?.text !== undefined || message?.deleted);
    entry.room.unread = behind.includes(undefined) ? undefined : counting.length;
  }

  #replace(entry, message) {
    if (entry.messages[message.seq]) entry.messages[message.seq] = message;
    else this.#late.get(entry.room.id)?.set(message.seq, message);
  }

  // How many have not read a message.
  unreadBy(id, seq) {
    const { room, receipts } = this.get(id);
    return room.members - Object.values(receipts).filter((read) => read >= seq).length;
  }

  // The first seq held behind the last gap; `undefined` when nothing is missing.
  gapBefore(id) {
    const { room, messages } = this.get(id);
    let seq = room.last;
    while (seq >= room.from && messages[seq]) seq -= 1;
    return seq >= room.from ? seq + 1 : undefined;
  }

  // Pages in what is missing. `page(before)` asks for the messages before a seq.
  async fill(id, page, receipts) {
    this.#late.set(id, new Map());
    for (let before = this.gapBefore(id); before !== undefined; before = this.gapBefore(id)) {
      const messages = await page(before);
      const entry = this.get(id);
      if (!entry || messages.length === 0) break;
      for (const message of messages) putPage(entry, message);
      for (const message of this.#late.get(id).values()) this.#replace(entry, message);
    }
    this.#late.delete(id);
    // Somebody may have left in the gap: whose receipts are held then, only the server knows.
    const told = this.get(id)?.gap ? await receipts() : undefined;
    const entry = this.get(id);
    if (!entry) return;
    if (told) {
      const held = entry.receipts;
      entry.receipts = Object.fromEntries(told.map(({ user, seq }) => [user, Math.max(seq, held[user] ?? 0)]));
      delete entry.gap;
    }
    if (entry.room.unread === undefined) this.recount(entry);
  }
}

// A page may be older than what the stream told meanwhile.
function putPage(entry, { unread, ...message }) {
  const held = entry.messages[message.seq];
  const isNewer = !held || (!held.deleted && (message.deleted || (message.edited_at ?? 0) > (held.edited_at ?? 0)));
  if (isNewer) entry.messages[message.seq] = message;
}

// Receipts move without an event when somebody writes, comes or goes.
function moveReceipts({ receipts }, { seq, from, text, system }) {
  if (text !== undefined) receipts[from] = seq;
  if (system === 'left') delete receipts[from];
  if (system?.removed) delete receipts[system.removed.user];
  for (const user of system?.invited?.users ?? []) receipts[user] = seq - 1;
}
