// Decodes the payload of a climate sensor, big-endian:
//
//   0     version, 1
//   1..3  u16  milliseconds since the reading was taken
//   3..5  i16  temperature in 0.01 °C
//   5..7  u16  relative humidity in 0.01 %
//
// One row a message. What is not such a payload becomes a dead letter, with its bytes and the reason.

import { decoder, onlyKeys, Rows } from '../sluice/sluice.js';

class SensorPayload {
  // `config` is the decoder's `with` table: `offset` is added to every temperature, in °C.
  constructor(config) {
    onlyKeys(config, 'offset');
    this.offset = config.offset ?? 0;
  }

  decode(messages, out) {
    const rows = new Rows(messages.profile('climate'));
    const temperature = [];
    const humidity = [];
    for (const message of messages) {
      const { payload } = message;
      if (payload.length !== 7) {
        out.rejectMessage(message, `${payload.length} bytes instead of 7`);
        continue;
      }
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
      if (view.getUint8(0) !== 1) {
        out.rejectMessage(message, `version ${view.getUint8(0)}, only 1 is known`);
        continue;
      }
      rows.pushDecoded(message, message.arrived - view.getUint16(1) * 1e6);
      temperature.push(view.getInt16(3) / 100 + this.offset);
      humidity.push(view.getUint16(5) / 100);
    }
    const frame = rows.finish();
    frame.set('temperature_c', temperature, 'Cel');
    frame.set('humidity_pct', humidity, '%');
    out.forward(frame);
  }
}

export const decoding = decoder(SensorPayload);
