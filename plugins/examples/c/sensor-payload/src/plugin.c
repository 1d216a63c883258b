// Decodes the payload of a climate sensor, big-endian:
//
//   0     version, 1
//   1..3  u16  milliseconds since the reading was taken
//   3..5  i16  temperature in 0.01 °C
//   5..7  u16  relative humidity in 0.01 %
//
// One row a message. What is not such a payload becomes a dead letter, with its bytes and the reason.

#include <stdlib.h>

#include "sluice.h"

static double offset;   // added to every temperature, in °C

// `config` is the decoder's `with` table.
const char *plugin_configure(const sluice_config *config) {
  if (!sluice_config_number(config, "offset", &offset)) offset = 0;
  return sluice_config_error(config);
}

static uint16_t u16(const uint8_t *bytes) {
  return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

const char *plugin_decode(const sluice_messages *messages, sluice_output *out) {
  size_t count = messages->arrived.len, decoded = 0;
  uint32_t *message = malloc(count * sizeof *message);
  int64_t *time = malloc(count * sizeof *time);
  double *temperature = malloc(count * sizeof *temperature), *humidity = malloc(count * sizeof *humidity);
  for (size_t i = 0; i < count; i++) {
    size_t length;
    const uint8_t *payload = sluice_payload(messages, i, &length);
    if (length != 7) {
      sluice_reject_message(out, i, sluice_format("%d bytes instead of 7", (int64_t)length));
      continue;
    }
    if (payload[0] != 1) {
      sluice_reject_message(out, i, sluice_format("version %d, only 1 is known", (int64_t)payload[0]));
      continue;
    }
    message[decoded] = (uint32_t)i;
    time[decoded] = messages->arrived.ptr[i] - u16(payload + 1) * INT64_C(1000000);
    temperature[decoded] = (int16_t)u16(payload + 3) / 100.0 + offset;
    humidity[decoded] = u16(payload + 5) / 100.0;
    decoded++;
  }
  sluice_text profile = messages->profile.len ? messages->profile : sluice_text_of("climate");
  sluice_table *table = sluice_decoded(out, messages, profile, message, time, decoded);
  if (table) {
    double *temperature_c = sluice_set_f64(table, sluice_text_of("temperature_c"), "Cel");
    double *humidity_pct = sluice_set_f64(table, sluice_text_of("humidity_pct"), "%");
    for (size_t row = 0; row < decoded; row++) {
      temperature_c[row] = temperature[row];
      humidity_pct[row] = humidity[row];
    }
  }
  free(message);
  free(time);
  free(temperature);
  free(humidity);
  return NULL;
}
