#include "config/quantity.h"

#include <errno.h>
#include <inttypes.h>

#include "config/value.h"

struct scale {
    uint64_t worth;
    const char *name;
};

static const char *const hints[] = {
    [QUANTITY_COUNT] = "a number; write decimal digits only",
    [QUANTITY_POWER_OF_TWO] = "a number; write decimal digits only",
    [QUANTITY_MILLI] = "a decimal number; write up to three places",
    [QUANTITY_SIZE] = "a size; write a number with a unit (B, KiB, MiB, GiB, kB, MB, GB)",
    [QUANTITY_SIZE_POWER_OF_TWO] = "a size; write a number with a unit (B, KiB)",
    [QUANTITY_TIME_US] = "a duration; write a number with a unit (us, ms, s, m, h)",
    [QUANTITY_TIME_MS] =
        "a duration in whole milliseconds; write a number with a unit (ms, s, m, h)",
    [QUANTITY_TIME_S] = "a duration in whole seconds; write a number with a unit (s, m, h)",
};

static uint64_t us_of(enum quantity_kind kind)
{
    return kind == QUANTITY_TIME_S ? 1000000 : kind == QUANTITY_TIME_MS ? 1000 : 1;
}

static int parse(enum quantity_kind kind, const char *text, uint64_t *out)
{
    int err;

    switch (kind) {
    case QUANTITY_COUNT:
    case QUANTITY_POWER_OF_TWO:
        return value_count(text, out);
    case QUANTITY_MILLI:
        return value_milli(text, out);
    case QUANTITY_SIZE:
    case QUANTITY_SIZE_POWER_OF_TWO:
        return value_size(text, out);
    default:
        err = value_duration(text, out);
        if (err)
            return err;
        if (*out % us_of(kind) != 0)
            return -EINVAL;
        *out /= us_of(kind);
        return 0;
    }
}

static const char *format_scaled(const struct scale *scale, uint64_t value,
                                 char text[QUANTITY_TEXT_BYTES])
{
    while (scale->worth > 1 && (value == 0 || value % scale->worth != 0))
        scale++;
    snprintf(text, QUANTITY_TEXT_BYTES, "%" PRIu64 "%s", value / scale->worth, scale->name);
    return text;
}

static const char *format_milli(uint64_t value, char text[QUANTITY_TEXT_BYTES])
{
    int length = snprintf(text, QUANTITY_TEXT_BYTES, "%" PRIu64 ".%03u", value / 1000,
                          (unsigned)(value % 1000));

    while (length > 2 && text[length - 1] == '0' && text[length - 2] != '.')
        text[--length] = '\0';
    return text;
}

const char *quantity_format(enum quantity_kind kind, uint64_t value, char text[QUANTITY_TEXT_BYTES])
{
    static const struct scale times[] = {
        {3600000000, "h"}, {60000000, "m"}, {1000000, "s"}, {1000, "ms"}, {1, "us"}};
    static const struct scale sizes[] = {{UINT64_C(1) << 30, "GiB"},
                                         {UINT64_C(1) << 20, "MiB"},
                                         {UINT64_C(1) << 10, "KiB"},
                                         {1, "B"}};

    switch (kind) {
    case QUANTITY_COUNT:
    case QUANTITY_POWER_OF_TWO:
        snprintf(text, QUANTITY_TEXT_BYTES, "%" PRIu64, value);
        return text;
    case QUANTITY_MILLI:
        return format_milli(value, text);
    case QUANTITY_SIZE:
    case QUANTITY_SIZE_POWER_OF_TWO:
        return format_scaled(sizes, value, text);
    default:
        if (value == 0)
            return "0";
        return format_scaled(times, value * us_of(kind), text);
    }
}

static bool needs_power_of_two(enum quantity_kind kind)
{
    return kind == QUANTITY_POWER_OF_TWO || kind == QUANTITY_SIZE_POWER_OF_TWO;
}

static uint64_t read_quantity(const struct place *parent, const struct quantity *q,
                              const char *text, bool or_zero)
{
    char min[QUANTITY_TEXT_BYTES], max[QUANTITY_TEXT_BYTES];
    uint64_t value = 0;
    int err;

    if (!text)
        return q->fallback;
    err = parse(q->kind, text, &value);
    if (err == -EINVAL) {
        key_error(parent, q->key, "\"%.80s\" is not %s", text, hints[q->kind]);
        return q->fallback;
    }
    if (!err && value == 0 && or_zero)
        return 0;
    if (err || value < q->min || value > q->max) {
        key_error(parent, q->key, "\"%.80s\" is out of range; write %s%s to %s", text,
                  or_zero ? "0, or " : "", quantity_format(q->kind, q->min, min),
                  quantity_format(q->kind, q->max, max));
        return q->fallback;
    }
    if (needs_power_of_two(q->kind) && (value & (value - 1)) != 0) {
        key_error(parent, q->key, "\"%.80s\" is not a power of two; write one from %s to %s", text,
                  quantity_format(q->kind, q->min, min), quantity_format(q->kind, q->max, max));
        return q->fallback;
    }
    return value;
}

uint64_t quantity_read(const struct place *parent, const struct quantity *q, const char *text)
{
    return read_quantity(parent, q, text, false);
}

uint64_t quantity_read_or_zero(const struct place *parent, const struct quantity *q,
                               const char *text)
{
    return read_quantity(parent, q, text, true);
}
