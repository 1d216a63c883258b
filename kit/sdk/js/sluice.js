// The SDK of Sluice plugins in JavaScript: frames by columns, results, errors in words.
//
// A processor:                                     A decoder:
//
//   import { processor } from '../sluice/sluice.js';   import { decoder, Rows } from '../sluice/sluice.js';
//   export const processing = processor(Plugin);      export const decoding = decoder(Plugin);
//
// `Plugin` is a class: its constructor gets the step's `with` table (throw to refuse it), `process(frame, out)` each frame
// of a call, `decode(messages, out)` the messages; `tick(out)` is called every `tickMs` milliseconds if that is set.
// Throwing out of a call makes the whole call count for nothing: nothing goes on, state changes are undone.
//
// Numbers: JavaScript holds integers exactly up to 2^53. Times are nanoseconds since 1970, so that `frame.time` is rounded
// to 256 ns, and columns of integers beyond 2^53 likewise. What a plugin does not change goes on exactly all the same: the
// gateway takes it over from the rows of the input.

const EMPTY = {
  f64s: () => [],
  s64s: () => [],
  bools: () => [],
  texts: () => ({ dictionary: { text: '', ends: [] }, index: [] }),
  blobs: () => ({ ends: [], bytes: new Uint8Array(0) }),
};

/** The entries of a dictionary, each a string. */
function unpack({ text, ends }) {
  // Ends count bytes of UTF-8; for plain ASCII these are characters.
  let from = 0;
  if (/^[\x00-\x7f]*$/.test(text)) {
    return ends.map((end) => { const entry = text.slice(from, end); from = end; return entry; });
  }
  const entries = [];
  let at = 0;
  let bytes = 0;
  for (const end of ends) {
    while (bytes < end) {
      const point = text.codePointAt(at);
      bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
      at += point < 0x10000 ? 1 : 2;
    }
    entries.push(text.slice(from, at));
    from = at;
  }
  return entries;
}

/** Bytes of a string in UTF-8. */
function utf8Length(text) {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0);
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** A dictionary that grows: each different text is kept once. */
class Dictionary {
  #known = new Map();
  #text = [];
  #ends = [];
  #bytes = 0;

  /** The entry of a text. */
  entry(text) {
    let entry = this.#known.get(text);
    if (entry === undefined) {
      entry = this.#ends.length;
      this.#known.set(text, entry);
      this.#text.push(text);
      this.#bytes += utf8Length(text);
      this.#ends.push(this.#bytes);
    }
    return entry;
  }

  finish() {
    return { text: this.#text.join(''), ends: this.#ends };
  }
}

/** JavaScript values as a column's. */
function pack(name, values) {
  const first = values[0];
  if (typeof first === 'boolean') return { tag: 'bools', val: Array.from(values) };
  if (typeof first === 'string') {
    const dictionary = new Dictionary();
    const index = Array.from(values, (text) => dictionary.entry(text));
    return { tag: 'texts', val: { dictionary: dictionary.finish(), index } };
  }
  if (first instanceof Uint8Array) {
    const ends = [];
    let length = 0;
    for (const bytes of values) ends.push((length += bytes.length));
    const all = new Uint8Array(length);
    values.forEach((bytes, row) => all.set(bytes, ends[row] - bytes.length));
    return { tag: 'blobs', val: { ends, bytes: all } };
  }
  if (first === undefined || typeof first === 'number') return { tag: 'f64s', val: Array.from(values) };
  throw new TypeError(`column ${JSON.stringify(name)}: values are numbers, booleans, strings or Uint8Arrays`);
}

/** A column's values as JavaScript values. */
function open(values) {
  switch (values.tag) {
    case 'texts': {
      const entries = unpack(values.val.dictionary);
      return values.val.index.map((entry) => entries[entry]);
    }
    case 'blobs': {
      const { ends, bytes } = values.val;
      const all = bytes instanceof Uint8Array ? bytes : Uint8Array.from(bytes);
      return ends.map((end, row) => all.subarray(row ? ends[row - 1] : 0, end));
    }
    default:
      return values.val;
  }
}

const pick = (values, rows) => (rows ? rows.map((row) => values[row]) : values);

/** A table of rows for one device profile. */
export class Frame {
  #input;
  #index;
  #rows;
  #devices;
  #columns;

  /** Made by the SDK: `input` is a frame as it came (or was built), `index` its place in the call, `rows` those of it. */
  constructor(input, index, rows = null, columns = null) {
    this.profile = input.profile;
    this.#input = input;
    this.#index = index;
    this.#rows = rows;
    // A column without `values` is the input's.
    this.#columns = columns ?? input.columns.map(({ name, unit }) => ({ name, unit, values: null }));
  }

  /** Number of rows. */
  get rows() {
    return this.#rows ? this.#rows.length : this.#input.device.length;
  }

  /** The devices that occur, each once; some may have no row. */
  get devices() {
    return (this.#devices ??= unpack(this.#input.devices));
  }

  /** Per row, the index into `devices`. */
  get device() {
    return pick(this.#input.device, this.#rows);
  }

  /** Per row, nanoseconds since 1970 UTC, rounded to 256 ns. */
  get time() {
    return pick(this.#input.time, this.#rows);
  }

  /** The names of all columns. */
  get columns() {
    return this.#columns.map((column) => column.name);
  }

  /** The type of a column: 'f64', 's64', 'bool', 'text' or 'blob'; undefined if there is none. */
  type(name) {
    const column = this.#columns.find((column) => column.name === name);
    const values = column && (column.values ?? this.#source(name).values);
    return values?.tag.slice(0, -1);
  }

  /** The values of a column of numbers, per row; null if there is no such column. */
  numbers(name) {
    return this.#read(name, ['f64s', 's64s']);
  }

  /** The values of a column of booleans, per row; null if there is no such column. */
  bools(name) {
    return this.#read(name, ['bools']);
  }

  /** The values of a column of texts, per row; null if there is no such column. */
  texts(name) {
    return this.#read(name, ['texts']);
  }

  /** The values of a column of bytes, a Uint8Array per row; null if there is no such column. */
  blobs(name) {
    return this.#read(name, ['blobs']);
  }

  /** Inserts a column or replaces its values: numbers, booleans, strings or Uint8Arrays, one per row. */
  set(name, values, unit) {
    if (values.length !== this.rows) {
      throw new RangeError(`column ${JSON.stringify(name)} has ${values.length} values for ${this.rows} rows`);
    }
    let column = this.#columns.find((column) => column.name === name);
    if (!column) this.#columns.push((column = { name, unit: '', values: null }));
    column.values = pack(name, values);
    if (unit !== undefined) column.unit = unit;
  }

  /** Takes a column out. */
  remove(name) {
    this.#columns = this.#columns.filter((column) => column.name !== name);
  }

  /** A copy of these rows, in this order. */
  select(rows) {
    const columns = this.#columns.map(({ name, unit, values }) => ({
      name,
      unit,
      values: values && rows.length ? pack(name, pick(open(values), rows)) : values,
    }));
    const frame = new Frame(this.#input, this.#index, this.#rows ? pick(this.#rows, rows) : rows, columns);
    frame.profile = this.profile;
    return frame;
  }

  /** A copy of the rows for which `keep(row)` is true. */
  filter(keep) {
    const rows = [];
    for (let row = 0; row < this.rows; row++) if (keep(row)) rows.push(row);
    return this.select(rows);
  }

  #source(name) {
    return this.#input.columns.find((column) => column.name === name);
  }

  #read(name, tags) {
    const column = this.#columns.find((column) => column.name === name);
    if (!column) return null;
    const values = column.values ?? this.#source(name).values;
    if (!tags.includes(values.tag)) return null;
    return column.values ? open(values) : pick(open(values), this.#rows);
  }

  /** As it crosses to the gateway. */
  lower(route) {
    const own = this.#index === null;
    const columns = this.#columns.map(({ name, unit, values }) => {
      const source = this.#source(name);
      const status = values && source?.status.length ? pick(source.status, this.#rows) : [];
      if (values) return { name, unit, values, status };
      const { tag } = source.values;
      return { name, unit, values: { tag, val: EMPTY[tag]() }, status: [] };
    });
    const origin = own
      ? this.#input.origin && { frame: 0, rows: pick(this.#input.origin, this.#rows) }
      : { frame: this.#index, rows: this.#rows ?? [] };
    // With an origin, what is left out is what it was: times, and the values of columns that were not set.
    const time = own && !this.#input.arrived ? this.time : [];
    const frame = { profile: this.profile, devices: this.#input.devices, device: this.device, time, columns };
    return { route, frame, origin: origin ?? null };
  }

  /** The input frame of this call and its rows, which are to be rejected. */
  origin(rows) {
    const of = rows ?? [...Array(this.rows).keys()];
    if (this.#index !== null) return { frame: this.#index, rows: pick(this.#rows ?? [...Array(this.#input.device.length).keys()], of) };
    return this.#input.origin ? { frame: 0, rows: pick(pick(this.#input.origin, this.#rows), of) } : null;
  }
}

/** Builds a frame row by row: first `push` all rows, then `finish`, then `set` the columns. */
export class Rows {
  #dictionary = new Dictionary();
  #device = [];
  #time = [];
  #messages = [];
  #arrived = true;

  constructor(profile) {
    this.profile = profile;
  }

  /** A row of one's own, such as an aggregate. */
  push(device, time) {
    this.#device.push(this.#dictionary.entry(device));
    this.#time.push(time);
    this.#arrived = false;
  }

  /** A row decoded from a message. Without `time`, all rows have the exact time at which their message arrived. */
  pushDecoded(message, time) {
    this.#device.push(this.#dictionary.entry(message.device));
    this.#time.push(time ?? message.arrived);
    this.#arrived &&= time === undefined;
    this.#messages.push(message.index);
  }

  /** The frame, without columns yet. */
  finish() {
    const decoded = this.#messages.length === this.#device.length && this.#messages.length > 0;
    const input = {
      profile: this.profile,
      devices: this.#dictionary.finish(),
      device: this.#device,
      time: this.#time,
      columns: [],
      origin: decoded ? this.#messages : null,
      arrived: decoded && this.#arrived,
    };
    return new Frame(input, null);
  }
}

/** Collects what a call hands back. */
export class Output {
  #frames = [];
  #rejected = [];

  /** Hands the frame to the next step. */
  forward(frame) {
    this.emit('telemetry', frame);
  }

  /** Sends the frame by another route, e.g. 'alarms'; it leaves the lane's steps. Frames without rows are dropped. */
  emit(route, frame) {
    if (frame.rows) this.#frames.push(frame.lower(route));
  }

  /** The frame's rows (all, or those named) cannot be used: they become dead letters with this reason. */
  reject(frame, reason, rows = null) {
    const origin = frame.origin(rows);
    if (origin?.rows.length) this.#rejected.push({ ...origin, reason });
  }

  /** A message that cannot be decoded becomes a dead letter. */
  rejectMessage(message, reason) {
    this.#rejected.push({ frame: 0, rows: [message.index], reason });
  }

  finish() {
    return { frames: this.#frames, rejected: this.#rejected };
  }
}

/** Refuses keys of a configuration that are not among those named. */
export function onlyKeys(config, ...names) {
  const unknown = Object.keys(config).find((key) => !names.includes(key));
  if (unknown !== undefined) throw new Error(`unknown key ${unknown}: there are ${names.join(', ')}`);
}

function instance(Plugin) {
  let plugin;
  const call = (run) => {
    const out = new Output();
    try {
      run(plugin, out);
    } catch (error) {
      throw { reason: `${error}${error?.stack ? `\n${error.stack}` : ''}` };
    }
    return out.finish();
  };
  const configure = (config) => {
    try {
      plugin = new Plugin(JSON.parse(config));
    } catch (error) {
      throw error instanceof Error && error.constructor === Error ? error.message : String(error);
    }
    return { tickMs: plugin.tickMs ?? 0 };
  };
  return { configure, call };
}

/** Makes a component's `processing` of a class. */
export function processor(Plugin) {
  const { configure, call } = instance(Plugin);
  return {
    configure,
    process: (frames) => call((plugin, out) => frames.forEach((frame, index) => plugin.process(new Frame(frame, index), out))),
    tick: () => call((plugin, out) => plugin.tick?.(out)),
  };
}

/** Makes a component's `decoding` of a class. */
export function decoder(Plugin) {
  const { configure, call } = instance(Plugin);
  return {
    configure,
    decode: (messages) => call((plugin, out) => plugin.decode(new Messages(messages), out)),
  };
}

/** Messages as devices sent them; iterable. */
export class Messages {
  #raw;

  constructor(raw) {
    this.#raw = raw;
  }

  /** The profile that the configuration names, or `fallback` if it names none. */
  profile(fallback) {
    return this.#raw.profile || fallback;
  }

  *[Symbol.iterator]() {
    const { device, arrived, topics, payloads } = this.#raw;
    const names = unpack(this.#raw.devices);
    const topic = unpack(topics.dictionary);
    const all = payloads.bytes instanceof Uint8Array ? payloads.bytes : Uint8Array.from(payloads.bytes);
    let from = 0;
    for (let index = 0; index < device.length; index++) {
      const payload = all.subarray(from, payloads.ends[index]);
      from = payloads.ends[index];
      yield { index, device: names[device[index]], arrived: arrived[index], topic: topic[topics.index[index]], payload };
    }
  }
}
