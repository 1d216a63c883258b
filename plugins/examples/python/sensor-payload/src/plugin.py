"""Decodes the payload of a climate sensor, big-endian:

0     version, 1
1..3  u16  milliseconds since the reading was taken
3..5  i16  temperature in 0.01 °C
5..7  u16  relative humidity in 0.01 %

One row a message. What is not such a payload becomes a dead letter, with its bytes and the reason.
"""

import struct

import sluice


class SensorPayload:
    def __init__(self, config):
        """`config` is the decoder's `with` table: `offset` is added to every temperature, in °C."""
        sluice.only_keys(config, "offset")
        self.offset = config.get("offset", 0)

    def decode(self, messages, out):
        rows = sluice.Rows(messages.profile("climate"))
        temperature, humidity = [], []
        for message in messages:
            if len(message.payload) != 7:
                out.reject_message(message, f"{len(message.payload)} bytes instead of 7")
                continue
            version, age_ms, hundredths, relative = struct.unpack(">BHhH", message.payload)
            if version != 1:
                out.reject_message(message, f"version {version}, only 1 is known")
                continue
            rows.push_decoded(message, message.arrived - age_ms * 1_000_000)
            temperature.append(hundredths / 100 + self.offset)
            humidity.append(relative / 100)
        frame = rows.finish()
        frame.set("temperature_c", temperature, unit="Cel")
        frame.set("humidity_pct", humidity, unit="%")
        out.forward(frame)


Decoding = sluice.decoder(SensorPayload)
