// See sluice.h.
#include "sluice.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// Memory that cannot be had ends the call: the gateway reports it, and goes on with a fresh instance.
static void *have(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) __builtin_trap();
  return memory;
}

static void *more(void *memory, size_t bytes) {
  memory = realloc(memory, bytes);
  if (!memory) __builtin_trap();
  return memory;
}

static void *copy(const void *from, size_t bytes) {
  return bytes ? memcpy(have(bytes), from, bytes) : NULL;
}

static void copy_text(sluice_text *to, sluice_text from) {
  to->ptr = copy(from.ptr, from.len);
  to->len = from.len;
}

// ---- Texts.

sluice_text sluice_text_of(const char *text) {
  return (sluice_text){.ptr = (uint8_t *)text, .len = strlen(text)};
}

bool sluice_text_equal(sluice_text a, sluice_text b) {
  return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

const char *sluice_format(const char *format, ...) {
  static char text[1024];
  size_t at = 0;
  va_list values;
  va_start(values, format);
  for (; *format && at < sizeof text - 1; format++) {
    sluice_text part = {.ptr = (uint8_t *)format, .len = 1};
    char digits[21];
    if (*format == '%' && format[1]) {
      switch (*++format) {
        case 's': part = sluice_text_of(va_arg(values, const char *)); break;
        case 't': part = va_arg(values, sluice_text); break;
        case 'd': {
          int64_t number = va_arg(values, int64_t);
          uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
          char *digit = digits + sizeof digits;
          do *--digit = (char)('0' + rest % 10);
          while (rest /= 10);
          if (number < 0) *--digit = '-';
          part = (sluice_text){.ptr = (uint8_t *)digit, .len = (size_t)(digits + sizeof digits - digit)};
          break;
        }
        default: part.ptr = (uint8_t *)format;
      }
    }
    size_t fits = part.len < sizeof text - 1 - at ? part.len : sizeof text - 1 - at;
    memcpy(text + at, part.ptr, fits);
    at += fits;
  }
  va_end(values);
  text[at] = 0;
  return text;
}

// ---- The configuration: a JSON object whose values are texts, numbers and whatever else. The gateway made it of TOML, so
// that it is well formed.

enum kind { TEXT, NUMBER, OTHER };

struct entry {
  sluice_text key, value;
  enum kind kind;
  bool asked;
};

struct sluice_config {
  struct entry *entries;
  size_t count;
  // A key whose value has another type than was asked for.
  const char *wrong, *wanted;
};

static const char *space(const char *at) {
  while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
  return at;
}

static void put_utf8(uint8_t **to, uint32_t point) {
  if (point < 0x80) {
    *(*to)++ = (uint8_t)point;
    return;
  }
  int following = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  *(*to)++ = (uint8_t)((0xf00 >> following) | (point >> (6 * following)));
  while (following--) *(*to)++ = (uint8_t)(0x80 | ((point >> (6 * following)) & 0x3f));
}

static uint32_t hex4(const char *at) {
  char digits[5] = {at[0], at[1], at[2], at[3], 0};
  return (uint32_t)strtoul(digits, NULL, 16);
}

// A text in quotes; `at` is its first quote. What is behind the last one is returned.
static const char *read_text(const char *at, sluice_text *text) {
  const char *end = ++at;
  while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
  uint8_t *to = text->ptr = have((size_t)(end - at));
  while (at < end) {
    if (*at != '\\') {
      *to++ = (uint8_t)*at++;
      continue;
    }
    static const char named[] = "b\bf\fn\nr\rt\t";
    const char *known = strchr(named, at[1]);
    if (at[1] == 'u') {
      uint32_t point = hex4(at + 2);
      at += 6;
      if (point >> 10 == 0x36 && at + 5 < end) {
        point = 0x10000 + ((point & 0x3ff) << 10) + (hex4(at + 2) & 0x3ff);
        at += 6;
      }
      put_utf8(&to, point);
    } else {
      *to++ = (uint8_t)(known ? known[1] : at[1]);
      at += 2;
    }
  }
  text->len = (size_t)(to - text->ptr);
  return *end ? end + 1 : end;
}

// Past a value of any kind.
static const char *skip(const char *at) {
  int depth = 0;
  do {
    if (*at == '"') {
      sluice_text text;
      at = read_text(at, &text);
      free(text.ptr);
      continue;
    }
    depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
    if (depth < 0 || (depth == 0 && *at == ',')) break;
    at++;
  } while (*at);
  return at;
}

static void parse(sluice_config *config, const char *at) {
  at = space(at);
  if (*at == '{') at = space(at + 1);
  while (*at == '"') {
    struct entry entry = {.kind = OTHER};
    at = space(read_text(at, &entry.key));
    at = space(at + (*at == ':'));
    if (*at == '"') {
      entry.kind = TEXT;
      at = read_text(at, &entry.value);
    } else {
      entry.kind = *at == '-' || (*at >= '0' && *at <= '9') ? NUMBER : OTHER;
      entry.value.ptr = (uint8_t *)at;
      at = skip(at);
      entry.value.len = (size_t)(at - (const char *)entry.value.ptr);
    }
    config->entries = more(config->entries, (config->count + 1) * sizeof entry);
    config->entries[config->count++] = entry;
    at = space(at);
    at = space(at + (*at == ','));
  }
}

static struct entry *ask(const sluice_config *config, const char *key, enum kind kind, const char *wanted) {
  sluice_text name = sluice_text_of(key);
  for (size_t i = 0; i < config->count; i++) {
    struct entry *entry = &config->entries[i];
    if (!sluice_text_equal(entry->key, name)) continue;
    entry->asked = true;
    if (entry->kind == kind) return entry;
    sluice_config *noted = (sluice_config *)config;
    noted->wrong = key;
    noted->wanted = wanted;
    return NULL;
  }
  return NULL;
}

bool sluice_config_text(const sluice_config *config, const char *key, sluice_text *value) {
  struct entry *entry = ask(config, key, TEXT, "a text");
  if (entry) *value = entry->value;
  return entry != NULL;
}

bool sluice_config_number(const sluice_config *config, const char *key, double *value) {
  struct entry *entry = ask(config, key, NUMBER, "a number");
  if (entry) *value = strtod((const char *)entry->value.ptr, NULL);
  return entry != NULL;
}

const char *sluice_config_error(const sluice_config *config) {
  if (config->wrong) return sluice_format("%s: must be %s", config->wrong, config->wanted);
  for (size_t i = 0; i < config->count; i++)
    if (!config->entries[i].asked) return sluice_format("unknown key %t", config->entries[i].key);
  return NULL;
}

// The configuration lives as long as the instance: the plugin may keep its texts.
static const char *configure(plugin_string_t *json) {
  char *text = memcpy(have(json->len + 1), json->ptr, json->len);
  text[json->len] = 0;
  sluice_config *config = have(sizeof *config);
  *config = (sluice_config){0};
  parse(config, text);
  return plugin_configure(config);
}

// ---- Reading frames and messages.

size_t sluice_rows(const sluice_frame *frame) {
  return frame->data->device.len;
}

sluice_text sluice_entry(const sluice_dictionary *dictionary, uint32_t entry) {
  uint32_t from = entry ? dictionary->ends.ptr[entry - 1] : 0;
  return (sluice_text){.ptr = dictionary->text.ptr + from, .len = dictionary->ends.ptr[entry] - from};
}

sluice_text sluice_device(const sluice_frame *frame, size_t row) {
  return sluice_entry(&frame->data->devices, frame->data->device.ptr[row]);
}

const sluice_column *sluice_find(const sluice_frame *frame, sluice_text name) {
  for (size_t i = 0; i < frame->data->columns.len; i++)
    if (sluice_text_equal(frame->data->columns.ptr[i].name, name)) return &frame->data->columns.ptr[i];
  return NULL;
}

const double *sluice_f64(const sluice_frame *frame, sluice_text name) {
  const sluice_column *column = sluice_find(frame, name);
  return column && column->values.tag == SLUICE_PLUGIN_TYPES_VALUES_F64S ? column->values.val.f64s.ptr : NULL;
}

const uint8_t *sluice_payload(const sluice_messages *messages, size_t message, size_t *length) {
  const uint32_t *ends = messages->payloads.ends.ptr;
  uint32_t from = message ? ends[message - 1] : 0;
  *length = ends[message] - from;
  return messages->payloads.bytes.ptr + from;
}

// ---- Output. Every pointer in it is freed by the bindings, so that each is a piece of memory of its own.

struct sluice_output {
  sluice_plugin_types_list_routed_t frames;
  sluice_plugin_types_list_rejected_t rejected;
};

static void copy_dictionary(sluice_dictionary *to, const sluice_dictionary *from) {
  copy_text(&to->text, from->text);
  to->ends.ptr = copy(from->ends.ptr, from->ends.len * sizeof(uint32_t));
  to->ends.len = from->ends.len;
}

static sluice_plugin_types_routed_t *routed(sluice_output *out, const char *route) {
  out->frames.ptr = more(out->frames.ptr, (out->frames.len + 1) * sizeof *out->frames.ptr);
  sluice_plugin_types_routed_t *routed = &out->frames.ptr[out->frames.len++];
  memset(routed, 0, sizeof *routed);
  copy_text(&routed->route, sluice_text_of(route));
  return routed;
}

// The entries of `device` at these rows.
static void pick(plugin_list_u32_t *to, const plugin_list_u32_t *device, const uint32_t *rows, size_t count) {
  to->ptr = have(count * sizeof(uint32_t));
  to->len = count;
  for (size_t i = 0; i < count; i++) to->ptr[i] = device->ptr[rows ? rows[i] : i];
}

// Only the tag: no values, which stands for those of the origin.
static void leave_out(sluice_plugin_types_values_t *to, const sluice_plugin_types_values_t *from) {
  memset(to, 0, sizeof *to);
  to->tag = from->tag;
}

sluice_table *sluice_emit(sluice_output *out, const char *route, const sluice_frame *frame, const uint32_t *rows, size_t count) {
  const sluice_plugin_types_frame_t *from = frame->data;
  if (!rows) count = from->device.len;
  if (!count) return NULL;
  sluice_plugin_types_routed_t *to = routed(out, route);
  sluice_table *table = &to->frame;
  copy_text(&table->profile, from->profile);
  copy_dictionary(&table->devices, &from->devices);
  pick(&table->device, &from->device, rows, count);
  table->columns.ptr = have(from->columns.len * sizeof(sluice_column));
  table->columns.len = from->columns.len;
  for (size_t i = 0; i < from->columns.len; i++) {
    sluice_column *column = &table->columns.ptr[i];
    memset(column, 0, sizeof *column);
    copy_text(&column->name, from->columns.ptr[i].name);
    copy_text(&column->unit, from->columns.ptr[i].unit);
    leave_out(&column->values, &from->columns.ptr[i].values);
  }
  to->origin.is_some = true;
  to->origin.val.frame = frame->index;
  if (rows) {
    to->origin.val.rows.ptr = copy(rows, count * sizeof(uint32_t));
    to->origin.val.rows.len = count;
  }
  return table;
}

sluice_table *sluice_forward(sluice_output *out, const sluice_frame *frame, const uint32_t *rows, size_t count) {
  return sluice_emit(out, "telemetry", frame, rows, count);
}

sluice_table *sluice_decoded(sluice_output *out, const sluice_messages *messages, sluice_text profile,
                             const uint32_t *decoded, const int64_t *times, size_t count) {
  if (!count) return NULL;
  sluice_plugin_types_routed_t *to = routed(out, "telemetry");
  sluice_table *table = &to->frame;
  copy_text(&table->profile, profile);
  copy_dictionary(&table->devices, &messages->devices);
  pick(&table->device, &messages->device, decoded, count);
  if (times) {
    table->time.ptr = copy(times, count * sizeof(int64_t));
    table->time.len = count;
  }
  to->origin.is_some = true;
  to->origin.val.rows.ptr = copy(decoded, count * sizeof(uint32_t));
  to->origin.val.rows.len = count;
  return table;
}

double *sluice_set_f64(sluice_table *table, sluice_text name, const char *unit) {
  sluice_column *column = NULL;
  for (size_t i = 0; i < table->columns.len; i++)
    if (sluice_text_equal(table->columns.ptr[i].name, name)) column = &table->columns.ptr[i];
  if (column) {
    sluice_plugin_types_values_free(&column->values);
    plugin_string_free(&column->unit);
  } else {
    size_t count = table->columns.len + 1;
    table->columns.ptr = table->columns.len ? more(table->columns.ptr, count * sizeof *column) : have(sizeof *column);
    column = &table->columns.ptr[table->columns.len++];
    memset(column, 0, sizeof *column);
    copy_text(&column->name, name);
  }
  copy_text(&column->unit, sluice_text_of(unit));
  column->values.tag = SLUICE_PLUGIN_TYPES_VALUES_F64S;
  column->values.val.f64s.ptr = have(table->device.len * sizeof(double));
  column->values.val.f64s.len = table->device.len;
  return column->values.val.f64s.ptr;
}

static void reject(sluice_output *out, uint32_t frame, const uint32_t *rows, size_t count, const char *reason) {
  out->rejected.ptr = more(out->rejected.ptr, (out->rejected.len + 1) * sizeof *out->rejected.ptr);
  sluice_plugin_types_rejected_t *rejected = &out->rejected.ptr[out->rejected.len++];
  memset(rejected, 0, sizeof *rejected);
  rejected->frame = frame;
  if (rows) {
    rejected->rows.ptr = copy(rows, count * sizeof(uint32_t));
    rejected->rows.len = count;
  }
  copy_text(&rejected->reason, sluice_text_of(reason));
}

void sluice_reject(sluice_output *out, const sluice_frame *frame, const uint32_t *rows, size_t count, const char *reason) {
  if (!rows || count) reject(out, frame->index, rows, count, reason);
}

void sluice_reject_message(sluice_output *out, size_t message, const char *reason) {
  uint32_t row = (uint32_t)message;
  reject(out, 0, &row, 1, reason);
}

// ---- The host.

bool sluice_state_get(sluice_text key, void *value, size_t size) {
  plugin_list_u8_t kept;
  if (!sluice_plugin_state_get(&key, &kept)) return false;
  bool fits = kept.len == size;
  if (fits) memcpy(value, kept.ptr, size);
  plugin_list_u8_free(&kept);
  return fits;
}

bool sluice_state_set(sluice_text key, const void *value, size_t size) {
  plugin_list_u8_t bytes = {.ptr = (uint8_t *)value, .len = size};
  sluice_plugin_state_refusal_t refusal;
  return sluice_plugin_state_set(&key, &bytes, &refusal);
}

void sluice_state_delete(sluice_text key) {
  sluice_plugin_state_delete(&key);
}

int64_t sluice_now(void) {
  return sluice_plugin_clock_now();
}

void sluice_log(sluice_plugin_log_level_t level, const char *message) {
  sluice_text text = sluice_text_of(message);
  sluice_plugin_log_write(level, &text);
}

void sluice_count(const char *metric, uint64_t by) {
  sluice_text name = sluice_text_of(metric);
  sluice_plugin_metrics_count(&name, by);
}

// ---- What the component exports.

static bool finish(sluice_output *out, const char *wrong, sluice_plugin_types_output_t *ret, plugin_string_t *reason) {
  ret->frames = out->frames;
  ret->rejected = out->rejected;
  if (!wrong) return true;
  plugin_string_dup(reason, wrong);
  sluice_plugin_types_output_free(ret);
  return false;
}

#ifdef SLUICE_PROCESSOR

bool exports_sluice_plugin_processing_configure(plugin_string_t *json, sluice_plugin_types_setup_t *ret, plugin_string_t *err) {
  const char *wrong = configure(json);
  plugin_string_free(json);
  ret->tick_ms = 0;
  if (wrong) plugin_string_dup(err, wrong);
  return !wrong;
}

bool exports_sluice_plugin_processing_process(exports_sluice_plugin_processing_list_frame_t *frames,
                                              sluice_plugin_types_output_t *ret, sluice_plugin_types_fault_t *err) {
  sluice_output out = {0};
  const char *wrong = NULL;
  for (size_t i = 0; i < frames->len && !wrong; i++) {
    sluice_frame frame = {.data = &frames->ptr[i], .index = (uint32_t)i};
    wrong = plugin_process(&frame, &out);
  }
  exports_sluice_plugin_processing_list_frame_free(frames);
  return finish(&out, wrong, ret, &err->reason);
}

bool exports_sluice_plugin_processing_tick(sluice_plugin_types_output_t *ret, sluice_plugin_types_fault_t *err) {
  (void)err;
  memset(ret, 0, sizeof *ret);
  return true;
}

#endif
#ifdef SLUICE_DECODER

bool exports_sluice_plugin_decoding_configure(plugin_string_t *json, sluice_plugin_types_setup_t *ret, plugin_string_t *err) {
  const char *wrong = configure(json);
  plugin_string_free(json);
  ret->tick_ms = 0;
  if (wrong) plugin_string_dup(err, wrong);
  return !wrong;
}

bool exports_sluice_plugin_decoding_decode(sluice_messages *messages, sluice_plugin_types_output_t *ret,
                                           sluice_plugin_types_fault_t *err) {
  sluice_output out = {0};
  const char *wrong = plugin_decode(messages, &out);
  sluice_plugin_types_messages_free(messages);
  return finish(&out, wrong, ret, &err->reason);
}

#endif
