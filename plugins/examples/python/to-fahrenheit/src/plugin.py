"""Turns a column of °C into °F, and drops rows whose value lies within the deadband around the device's last kept one.

The last kept value of each device is the plugin's state: it is committed together with the rows that go on, so after a
power cut nothing is compared with a row that never left.
"""

import math
import struct

import sluice
from wit_world.imports import state


class ToFahrenheit:
    def __init__(self, config):
        """`config` is the step's `with` table:

        column     the column of °C
        into       where the °F go; by default into the same column
        deadband   a row is kept if it differs by more than this from the last kept one, in °C
        """
        sluice.only_keys(config, "column", "into", "deadband")
        self.column = config.get("column")
        if not self.column:
            raise sluice.ConfigError("column: name the column of °C")
        self.deadband = config.get("deadband", -1)
        if not self.deadband >= 0:
            raise sluice.ConfigError("deadband: must be 0 or more, in °C")
        self.into = config.get("into", self.column)

    def process(self, frame, out):
        if frame.type(self.column) != "f64":
            # Another kind of device: not ours.
            out.forward(frame)
            return
        celsius = frame[self.column]
        last = [read(device) for device in frame.devices]
        changed = set()
        keep = []
        for row, device in enumerate(frame.device):
            if abs(celsius[row] - last[device]) <= self.deadband:
                continue
            last[device] = celsius[row]
            changed.add(device)
            keep.append(row)
        for device in changed:
            state.set(frame.devices[device], struct.pack("<d", last[device]))
        kept = frame.select(keep)
        kept.set(self.into, [value * 1.8 + 32 for value in kept[self.column]], unit="[degF]")
        out.forward(kept)


def read(device):
    """The kept value of a device; NaN, from which everything differs, if there is none."""
    kept = state.get(device)
    return struct.unpack("<d", kept)[0] if kept else math.nan


Processing = sluice.processor(ToFahrenheit)
