// Turns a column of °C into °F, and drops rows whose value lies within the deadband around the device's last kept one.
//
// The last kept value of each device is the plugin's state: it is committed together with the rows that go on, so after a
// power cut nothing is compared with a row that never left.

#include <math.h>
#include <stdlib.h>

#include "sluice.h"

static sluice_text column;   // the column of °C
static sluice_text into;     // where the °F go; by default into the same column
static double deadband;      // a row is kept if it differs by more than this from the last kept one, in °C

// `config` is the step's `with` table.
const char *plugin_configure(const sluice_config *config) {
  bool has_column = sluice_config_text(config, "column", &column);
  bool has_deadband = sluice_config_number(config, "deadband", &deadband);
  if (!sluice_config_text(config, "into", &into)) into = column;
  const char *error = sluice_config_error(config);
  if (error) return error;
  if (!has_column || !column.len) return "column: name the column of °C";
  if (!has_deadband || !(deadband >= 0)) return "deadband: must be 0 or more, in °C";
  return NULL;
}

const char *plugin_process(const sluice_frame *frame, sluice_output *out) {
  const double *celsius = sluice_f64(frame, column);
  if (!celsius) {
    // Another kind of device: not ours.
    sluice_forward(out, frame, NULL, 0);
    return NULL;
  }
  size_t rows = sluice_rows(frame), devices = frame->data->devices.ends.len, count = 0;
  double *last = malloc(devices * sizeof *last);
  bool *changed = calloc(devices, sizeof *changed);
  uint32_t *kept = malloc(rows * sizeof *kept);
  for (uint32_t device = 0; device < devices; device++) {
    // Everything differs from NAN.
    if (!sluice_state_get(sluice_entry(&frame->data->devices, device), &last[device], sizeof *last)) last[device] = NAN;
  }
  for (uint32_t row = 0; row < rows; row++) {
    uint32_t device = frame->data->device.ptr[row];
    if (fabs(celsius[row] - last[device]) <= deadband) continue;
    last[device] = celsius[row];
    changed[device] = true;
    kept[count++] = row;
  }
  const char *fault = NULL;
  for (uint32_t device = 0; device < devices && !fault; device++) {
    sluice_text name = sluice_entry(&frame->data->devices, device);
    if (changed[device] && !sluice_state_set(name, &last[device], sizeof *last)) fault = "the state is full (limits.state)";
  }
  sluice_table *table = sluice_forward(out, frame, kept, count);
  if (table) {
    double *fahrenheit = sluice_set_f64(table, into, "[degF]");
    for (size_t row = 0; row < count; row++) fahrenheit[row] = celsius[kept[row]] * 1.8 + 32;
  }
  free(last);
  free(changed);
  free(kept);
  return fault;
}
