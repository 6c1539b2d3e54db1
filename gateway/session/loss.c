#include "gateway/session/loss.h"

#include <errno.h>
#include <string.h>

#include "gateway/random.h"

#define NUMBER_MAX UINT64_C(999999999999999999)

static int fail(const char **why, const char *what)
{
    if (why)
        *why = what;
    return -EINVAL;
}

/* Digits, nothing else: no sign, no blank, no more than NUMBER_MAX. */
static bool read_number(const char **text, uint64_t *number)
{
    const char *c = *text;

    *number = 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        *number = *number * 10 + (uint64_t)(*c - '0');
        if (*number > NUMBER_MAX)
            return false;
    }
    if (c == *text)
        return false;
    *text = c;
    return true;
}

static int read_percent(struct loss *loss, uint64_t number, const char *rest, const char **why)
{
    if (rest[1])
        return fail(why, "nothing may follow the percent sign");
    if (number > 100)
        return fail(why, "more than 100 percent");
    loss->percent = (uint32_t)number;
    loss->active = number != 0;
    return 0;
}

static int read_ranges(struct loss *loss, const char *text, const char **why)
{
    for (;;) {
        uint64_t first, last;

        if (loss->range_count == LOSS_RANGES)
            return fail(why, "more than 10 ranges");
        if (!read_number(&text, &first))
            return fail(why, "a range is N or N-M");
        last = first;
        if (*text == '-') {
            text++;
            if (!read_number(&text, &last))
                return fail(why, "a range is N or N-M");
        }
        if (first == 0 || last < first)
            return fail(why, "messages are counted from 1, and a range goes upwards");
        loss->ranges[loss->range_count].first = first;
        loss->ranges[loss->range_count++].last = last;
        if (*text == 0)
            return 0;
        if (*text++ != ',')
            return fail(why, "ranges are parted by commas");
    }
}

int loss_parse(struct loss *loss, const char *text, const char **why)
{
    struct loss parsed = {.active = true};
    const char *rest = text;
    uint64_t number;
    int err;

    if (strlen(text) >= LOSS_TEXT_BYTES)
        return fail(why, "too long");
    if (read_number(&rest, &number) && *rest == '%')
        err = read_percent(&parsed, number, rest, why);
    else
        err = read_ranges(&parsed, text, why);
    if (!err)
        *loss = parsed;
    return err;
}

bool loss_strikes(struct loss *loss, struct random *random)
{
    uint64_t n;

    if (!loss->active)
        return false;
    n = ++loss->sent;
    for (unsigned i = 0; i < loss->range_count; i++)
        if (n >= loss->ranges[i].first && n <= loss->ranges[i].last)
            return true;
    return loss->percent && random_below(random, 100) < loss->percent;
}
