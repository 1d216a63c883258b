// Turns a column of °C into °F, and drops rows whose value lies within the deadband around the device's last kept one.
//
// The last kept value of each device is the plugin's state: it is committed together with the rows that go on, so after a
// power cut nothing is compared with a row that never left.

import * as state from 'sluice:plugin/state@1.0.0';
import { onlyKeys, processor } from '../sluice/sluice.js';

class ToFahrenheit {
  // `config` is the step's `with` table:
  //   column     the column of °C
  //   into       where the °F go; by default into the same column
  //   deadband   a row is kept if it differs by more than this from the last kept one, in °C
  constructor(config) {
    onlyKeys(config, 'column', 'into', 'deadband');
    if (!config.column) throw new Error('column: name the column of °C');
    if (!(config.deadband >= 0)) throw new Error('deadband: must be 0 or more, in °C');
    this.column = config.column;
    this.into = config.into ?? config.column;
    this.deadband = config.deadband;
  }

  process(frame, out) {
    if (frame.type(this.column) !== 'f64') {
      // Another kind of device: not ours.
      out.forward(frame);
      return;
    }
    const celsius = frame.numbers(this.column);
    const device = frame.device;
    const last = frame.devices.map(read);
    const changed = new Set();
    const kept = frame.filter((row) => {
      const value = celsius[row];
      if (Math.abs(value - last[device[row]]) <= this.deadband) return false;
      last[device[row]] = value;
      changed.add(device[row]);
      return true;
    });
    for (const entry of changed) write(frame.devices[entry], last[entry]);
    kept.set(this.into, kept.numbers(this.column).map((celsius) => celsius * 1.8 + 32), '[degF]');
    out.forward(kept);
  }
}

/** The kept value of a device; NaN, from which everything differs, if there is none. */
function read(device) {
  const bytes = state.get(device);
  return bytes ? new DataView(Uint8Array.from(bytes).buffer).getFloat64(0, true) : NaN;
}

function write(device, value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  state.set(device, bytes);
}

export const processing = processor(ToFahrenheit);
