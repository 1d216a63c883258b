"""The SDK of Sluice plugins in Python: frames by columns, results, errors in words.

A processor is a class whose constructor gets the step's `with` table (raise ConfigError to refuse it), with a method
`process(frame, out)` that gets each frame of a call, and if `tick_ms` is set, `tick(out)`:

    Processing = sluice.processor(Plugin)

A decoder has `decode(messages, out)` instead:

    Decoding = sluice.decoder(Plugin)

An exception that leaves a call makes the whole call count for nothing: nothing goes on, state changes are undone.
What a plugin does not change need not be handed back: the gateway takes it over from the rows of the input, bit for bit.
"""

import json
import traceback

from componentize_py_types import Err
from wit_world.imports import types as wit


class ConfigError(Exception):
    """What is wrong with the configuration, for the site engineer: names the key and what is expected."""


def only_keys(config, *names):
    """Refuses keys of a configuration that are not among those named."""
    for key in config:
        if key not in names:
            raise ConfigError(f"unknown key {key}: there are {', '.join(names)}")


def _unpack(dictionary):
    text = dictionary.text.encode()
    starts = [0, *dictionary.ends]
    return [text[start:end].decode() for start, end in zip(starts, dictionary.ends)]


class _Dictionary:
    """A dictionary that grows: each different text is kept once."""

    def __init__(self):
        self.entries = {}

    def entry(self, text):
        return self.entries.setdefault(text, len(self.entries))

    def finish(self):
        ends, end = [], 0
        for text in self.entries:
            end += len(text.encode())
            ends.append(end)
        return wit.Dictionary("".join(self.entries), ends)


def _pack(name, values):
    """Python values as a column's."""
    values = list(values)
    first = values[0] if values else 0.0
    if isinstance(first, bool):
        return wit.Values_Bools(values)
    if isinstance(first, float):
        return wit.Values_F64s([float(value) for value in values])
    if isinstance(first, int):
        return wit.Values_S64s(values)
    if isinstance(first, str):
        dictionary = _Dictionary()
        index = [dictionary.entry(text) for text in values]
        return wit.Values_Texts(wit.Texts(dictionary.finish(), index))
    if isinstance(first, bytes):
        ends, end = [], 0
        for value in values:
            end += len(value)
            ends.append(end)
        return wit.Values_Blobs(wit.Blobs(ends, b"".join(values)))
    raise TypeError(f"column {name!r}: values are float, int, bool, str or bytes, not {type(first).__name__}")


def _open(values):
    """A column's values as Python values."""
    if isinstance(values, wit.Values_Texts):
        entries = _unpack(values.value.dictionary)
        return [entries[entry] for entry in values.value.index]
    if isinstance(values, wit.Values_Blobs):
        starts = [0, *values.value.ends]
        return [values.value.bytes[start:end] for start, end in zip(starts, values.value.ends)]
    return values.value


def _nothing(values):
    """No values of the same type, which stands for those of the origin."""
    if isinstance(values, wit.Values_Texts):
        return wit.Values_Texts(wit.Texts(wit.Dictionary("", []), []))
    if isinstance(values, wit.Values_Blobs):
        return wit.Values_Blobs(wit.Blobs([], b""))
    return type(values)([])


_TYPES = {
    wit.Values_F64s: "f64",
    wit.Values_S64s: "i64",
    wit.Values_Bools: "bool",
    wit.Values_Texts: "text",
    wit.Values_Blobs: "blob",
}


def _pick(values, rows):
    return values if rows is None else [values[row] for row in rows]


class Frame:
    """A table of rows for one device profile."""

    def __init__(self, source, index, rows=None, columns=None):
        """Made by the SDK: `source` is a frame as it came (or was built), `index` its place in the call, `rows` those of it."""
        self.profile = source.profile
        self._source = source
        self._index = index
        self._rows = rows
        self._devices = None
        # Name to [unit, own values]; None stands for the source's.
        self._columns = columns if columns is not None else {c.name: [c.unit, None] for c in source.columns}

    def __len__(self):
        """Number of rows."""
        return len(self._source.device if self._rows is None else self._rows)

    @property
    def devices(self):
        """The devices that occur, each once; some may have no row."""
        if self._devices is None:
            self._devices = _unpack(self._source.devices)
        return self._devices

    @property
    def device(self):
        """Per row, the index into `devices`."""
        return _pick(self._source.device, self._rows)

    @property
    def time(self):
        """Per row, nanoseconds since 1970 UTC."""
        return _pick(self._source.time, self._rows)

    @property
    def columns(self):
        """The names of all columns."""
        return list(self._columns)

    def type(self, name):
        """The type of a column: "f64", "i64", "bool", "text" or "blob"; None if there is none."""
        return _TYPES[type(self._values(name))] if name in self._columns else None

    def __getitem__(self, name):
        """The values of a column, one per row; KeyError if there is none of that name."""
        values = self._columns[name][1]
        return _open(values) if values is not None else _pick(_open(self._values(name)), self._rows)

    def set(self, name, values, unit=None):
        """Inserts a column or replaces its values: float, int, bool, str or bytes, one per row."""
        values = list(values)
        if len(values) != len(self):
            raise ValueError(f"column {name!r} has {len(values)} values for {len(self)} rows")
        column = self._columns.setdefault(name, ["", None])
        column[1] = _pack(name, values)
        if unit is not None:
            column[0] = unit

    def __delitem__(self, name):
        """Takes a column out."""
        del self._columns[name]

    def select(self, rows):
        """A copy of these rows, in this order."""
        rows = list(rows)
        columns = {
            name: [unit, values if values is None else _pack(name, _pick(_open(values), rows))]
            for name, (unit, values) in self._columns.items()
        }
        frame = Frame(self._source, self._index, rows if self._rows is None else _pick(self._rows, rows), columns)
        frame.profile = self.profile
        return frame

    def _column(self, name):
        return next((column for column in self._source.columns if column.name == name), None)

    def _values(self, name):
        own = self._columns[name][1]
        return own if own is not None else self._column(name).values

    def _lower(self, route):
        columns = []
        for name, (unit, values) in self._columns.items():
            source = self._column(name)
            status = _pick(source.status, self._rows) if values is not None and source and source.status else []
            columns.append(wit.Column(name, unit, _nothing(source.values) if values is None else values, status))
        own = self._index is None
        # With an origin, what is left out is what it was: times, and the values of columns that were not set.
        time = self.time if own else []
        table = wit.Frame(self.profile, self._source.devices, self.device, time, columns)
        if not own:
            origin = wit.Origin(self._index, self._rows or [])
        else:
            origin = None if self._source.origin is None else wit.Origin(0, _pick(self._source.origin, self._rows))
        return wit.Routed(route, table, origin)

    def _rejected(self, rows, reason):
        all_rows = list(range(len(self))) if rows is None else list(rows)
        if self._index is not None:
            return wit.Rejected(self._index, all_rows if self._rows is None else _pick(self._rows, all_rows), reason)
        if self._source.origin is None:
            return None
        return wit.Rejected(0, _pick(_pick(self._source.origin, self._rows), all_rows), reason)


class _Built:
    """The source of a frame that the plugin made."""

    def __init__(self, profile, devices, device, time, origin):
        self.profile, self.devices, self.device, self.time, self.origin = profile, devices, device, time, origin
        self.columns = []


class Rows:
    """Builds a frame row by row: first push all rows, then finish, then set the columns."""

    def __init__(self, profile):
        self._profile = profile
        self._devices = _Dictionary()
        self._device, self._time, self._messages = [], [], []

    def push(self, device, time):
        """A row of one's own, such as an aggregate."""
        self._device.append(self._devices.entry(device))
        self._time.append(time)

    def push_decoded(self, message, time=None):
        """A row decoded from a message; without `time`, the one at which it arrived."""
        self.push(message.device, message.arrived if time is None else time)
        self._messages.append(message.index)

    def finish(self):
        """The frame, without columns yet."""
        origin = self._messages if len(self._messages) == len(self._device) else None
        return Frame(_Built(self._profile, self._devices.finish(), self._device, self._time, origin), None)


class Output:
    """Collects what a call hands back."""

    def __init__(self):
        self._frames, self._rejected = [], []

    def forward(self, frame):
        """Hands the frame to the next step."""
        self.emit("telemetry", frame)

    def emit(self, route, frame):
        """Sends the frame by another route, e.g. "alarms"; it leaves the lane's steps. Frames without rows are dropped."""
        if len(frame):
            self._frames.append(frame._lower(route))

    def reject(self, frame, reason, rows=None):
        """The frame's rows (all, or those named) cannot be used: they become dead letters with this reason."""
        rejected = frame._rejected(rows, reason)
        if rejected and rejected.rows:
            self._rejected.append(rejected)

    def reject_message(self, message, reason):
        """A message that cannot be decoded becomes a dead letter."""
        self._rejected.append(wit.Rejected(0, [message.index], reason))

    def _finish(self):
        return wit.Output(self._frames, self._rejected)


class Message:
    """A message as a device sent it."""

    __slots__ = ("index", "device", "arrived", "topic", "payload")

    def __init__(self, index, device, arrived, topic, payload):
        self.index, self.device, self.arrived, self.topic, self.payload = index, device, arrived, topic, payload


class Messages:
    """The messages of a call, in the order of arrival."""

    def __init__(self, raw):
        self._raw = raw

    def profile(self, default):
        """The profile that the configuration names, or `default` if it names none."""
        return self._raw.profile or default

    def __iter__(self):
        raw = self._raw
        devices, topics = _unpack(raw.devices), _unpack(raw.topics.dictionary)
        start = 0
        for index, end in enumerate(raw.payloads.ends):
            payload = raw.payloads.bytes[start:end]
            start = end
            topic = topics[raw.topics.index[index]]
            yield Message(index, devices[raw.device[index]], raw.arrived[index], topic, payload)


class _Component:
    plugin = None

    def _configure(self, make, config):
        try:
            type(self).plugin = make(json.loads(config))
        except ConfigError as error:
            raise Err(str(error)) from None
        except Exception:
            raise Err(traceback.format_exc()) from None
        return wit.Setup(getattr(self.plugin, "tick_ms", 0))

    def _call(self, run):
        out = Output()
        try:
            run(self.plugin, out)
        except Exception:
            raise Err(wit.Fault(traceback.format_exc())) from None
        return out._finish()


def processor(make):
    """The component's class of a processor."""

    class Processing(_Component):
        def configure(self, config):
            return self._configure(make, config)

        def process(self, frames):
            def run(plugin, out):
                for index, frame in enumerate(frames):
                    plugin.process(Frame(frame, index), out)

            return self._call(run)

        def tick(self):
            return self._call(lambda plugin, out: plugin.tick(out))

    return Processing


def decoder(make):
    """The component's class of a decoder."""

    class Decoding(_Component):
        def configure(self, config):
            return self._configure(make, config)

        def decode(self, messages):
            return self._call(lambda plugin, out: plugin.decode(Messages(messages), out))

    return Decoding
