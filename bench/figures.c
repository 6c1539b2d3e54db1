#include "bench/figures.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define NOT_KNOWN (-1.0)

static const struct column {
    const char *title, *key;
    size_t offset;
    int decimals;
} columns[] = {
    {"ns", "ns", offsetof(struct figure, ns), 1},
    {"TSC cycles", "tsc_cycles", offsetof(struct figure, tsc), 1},
    {"instructions", "instructions", offsetof(struct figure, instructions), 1},
    {"cycles", "cycles", offsetof(struct figure, counts[METER_CYCLES]), 1},
    {"L1 misses", "l1_misses", offsetof(struct figure, counts[METER_L1_MISSES]), 2},
    {"LLC misses", "llc_misses", offsetof(struct figure, counts[METER_LLC_MISSES]), 3},
    {"target ns", "target_ns", offsetof(struct figure, target_ns), 0},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static double *value_at(struct figure *row, size_t offset)
{
    return (double *)(void *)((char *)row + offset);
}

static double value_of(const struct figure *row, size_t offset)
{
    return *(const double *)(const void *)((const char *)row + offset);
}

struct figure figure_of(struct meter *meter)
{
    double n = meter->operations ? (double)meter->operations : 1, ns = meter_ns_each(meter);
    struct figure row = {.ns = ns,
                         .tsc = meter_ns_to_tsc(ns),
                         .target_ns = NOT_KNOWN,
                         .operations = meter->operations};

    for (unsigned i = 0; i < METER_EVENTS; i++)
        row.counts[i] = meter_has(meter, i) ? (double)meter->sum[i] / n : NOT_KNOWN;
    row.instructions = row.counts[METER_INSTRUCTIONS];
    return row;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(struct figure *rounds, unsigned count, size_t offset)
{
    double values[FIGURES_MAX];

    for (unsigned i = 0; i < count; i++)
        values[i] = *value_at(&rounds[i], offset);
    qsort(values, count, sizeof(values[0]), compare);
    return values[count / 2];
}

struct figure *figures_add(struct figures *f, const char *name, struct figure *rounds,
                           unsigned count)
{
    struct figure *row = &f->rows[f->count < FIGURES_MAX ? f->count++ : FIGURES_MAX - 1];

    *row = rounds[0];
    for (unsigned i = 0; i < COLUMNS; i++)
        *value_at(row, columns[i].offset) = median(rounds, count, columns[i].offset);
    snprintf(row->name, sizeof(row->name), "%s", name);
    return row;
}

/* ---- printing ---- */

static bool is_used(const struct figures *f, size_t offset)
{
    for (unsigned i = 0; i < f->count; i++)
        if (value_of(&f->rows[i], offset) >= 0)
            return true;
    return false;
}

static void print_table(const struct figures *f)
{
    printf("%-*s", FIGURES_NAME, f->unit);
    for (unsigned c = 0; c < COLUMNS; c++)
        if (is_used(f, columns[c].offset))
            printf(" %12s", columns[c].title);
    putchar('\n');
    for (unsigned i = 0; i < f->count; i++) {
        printf("%-*s", FIGURES_NAME, f->rows[i].name);
        for (unsigned c = 0; c < COLUMNS; c++) {
            double value = value_of(&f->rows[i], columns[c].offset);

            if (!is_used(f, columns[c].offset))
                continue;
            if (value < 0)
                printf(" %12s", "-");
            else
                printf(" %12.*f", columns[c].decimals, value);
        }
        putchar('\n');
    }
}

static void print_json(const struct figures *f)
{
    printf("{\"program\": \"%s\", \"unit\": \"%s\", \"rows\": [", f->program, f->unit);
    for (unsigned i = 0; i < f->count; i++) {
        printf("%s\n  {\"name\": \"%s\", \"operations\": %llu", i ? "," : "", f->rows[i].name,
               (unsigned long long)f->rows[i].operations);
        for (unsigned c = 0; c < COLUMNS; c++) {
            double value = value_of(&f->rows[i], columns[c].offset);

            printf(", \"%s\": ", columns[c].key);
            if (value < 0)
                printf("null");
            else
                printf("%.*f", columns[c].decimals, value);
        }
        putchar('}');
    }
    printf("\n]}\n");
}

void figures_print(const struct figures *f, bool json)
{
    if (json)
        print_json(f);
    else
        print_table(f);
}
