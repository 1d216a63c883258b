// The SDK of Sluice plugins in C: a few functions on top of plugin.h, which is generated from the plugin interface.
//
// A processor defines plugin_configure and plugin_process, a decoder plugin_configure and plugin_decode. Each returns NULL,
// or a text (a constant, or one of sluice_format) that says what is wrong:
//   from plugin_configure   the site engineer is told so, and the step does not start
//   from the others         the whole call counts for nothing: nothing goes on, state changes are undone
//
// Memory: what a call is given is freed after it, and so is its output. Texts are not terminated by 0.
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin.h"

typedef plugin_string_t sluice_text;
typedef sluice_plugin_types_dictionary_t sluice_dictionary;
typedef sluice_plugin_types_column_t sluice_column;
typedef sluice_plugin_types_messages_t sluice_messages;
// Output: a frame that the gateway is handed.
typedef sluice_plugin_types_frame_t sluice_table;

// Input: a frame and its place in the call. Row r is device sluice_device(frame, r) at data->time.ptr[r].
typedef struct {
  const sluice_plugin_types_frame_t *data;
  uint32_t index;
} sluice_frame;

// Collects what a call hands back.
typedef struct sluice_output sluice_output;
// The step's `with` table.
typedef struct sluice_config sluice_config;

// ---- What the plugin defines.

const char *plugin_configure(const sluice_config *config);
const char *plugin_process(const sluice_frame *frame, sluice_output *out);
const char *plugin_decode(const sluice_messages *messages, sluice_output *out);

// ---- The configuration.

// The text or number of a key; false if it is absent. A value of another type is an error, see sluice_config_error.
bool sluice_config_text(const sluice_config *config, const char *key, sluice_text *value);
bool sluice_config_number(const sluice_config *config, const char *key, double *value);
// After all keys were asked for: NULL, or what is wrong (a key nobody asked for, a value of another type).
const char *sluice_config_error(const sluice_config *config);

// ---- Reading frames and messages.

size_t sluice_rows(const sluice_frame *frame);
// An entry of a dictionary, e.g. of frame->data->devices.
sluice_text sluice_entry(const sluice_dictionary *dictionary, uint32_t entry);
sluice_text sluice_device(const sluice_frame *frame, size_t row);
// A column; NULL if there is none of that name.
const sluice_column *sluice_find(const sluice_frame *frame, sluice_text name);
// The values of a column of floating-point numbers; NULL if there is no such column.
const double *sluice_f64(const sluice_frame *frame, sluice_text name);
// A message's payload: `length` bytes.
const uint8_t *sluice_payload(const sluice_messages *messages, size_t message, size_t *length);

// ---- Output.

// Hands rows of the frame to the next step; `rows` are their numbers, NULL for all. NULL is returned if there are none.
// What is not set in the table goes on as it was: times, and the values of all columns.
sluice_table *sluice_forward(sluice_output *out, const sluice_frame *frame, const uint32_t *rows, size_t count);
// The same by another route, e.g. "alarms"; the rows leave the lane's steps.
sluice_table *sluice_emit(sluice_output *out, const char *route, const sluice_frame *frame, const uint32_t *rows, size_t count);
// A frame of rows decoded from these messages. `times` are nanoseconds since 1970, NULL for when the messages arrived.
sluice_table *sluice_decoded(sluice_output *out, const sluice_messages *messages, sluice_text profile,
                             const uint32_t *decoded, const int64_t *times, size_t count);
// A column's values, one per row, to be filled in; the column is made if there is none of that name.
double *sluice_set_f64(sluice_table *table, sluice_text column, const char *unit);
// Rows of the frame cannot be used: they become dead letters with this reason.
void sluice_reject(sluice_output *out, const sluice_frame *frame, const uint32_t *rows, size_t count, const char *reason);
// A message cannot be decoded: likewise.
void sluice_reject_message(sluice_output *out, size_t message, const char *reason);

// ---- The host.

// The value of a key in the kept state; false if there is none of that size.
bool sluice_state_get(sluice_text key, void *value, size_t size);
// Sets it; false if the step's limit is reached, or the key has not 1 to 256 bytes.
bool sluice_state_set(sluice_text key, const void *value, size_t size);
void sluice_state_delete(sluice_text key);
// Nanoseconds since 1970, the same during the whole call.
int64_t sluice_now(void);
void sluice_log(sluice_plugin_log_level_t level, const char *message);
void sluice_count(const char *metric, uint64_t by);

// ---- Texts.

sluice_text sluice_text_of(const char *text);
bool sluice_text_equal(sluice_text a, sluice_text b);
// A text with %s (const char *), %t (sluice_text), %d (int64_t) and %%, cut at 1,023 bytes. It holds until the next one.
const char *sluice_format(const char *format, ...);

#endif
