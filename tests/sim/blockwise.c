#include "tests/sim/blockwise.h"

#include <stdio.h>
#include <stdlib.h>

#define TRAFFIC_US (900 * SECOND)
#define END_US     (4000 * SECOND)

size_t upload_length(const struct block_world *w, uint32_t id)
{
    size_t most = id % 8 == 0 ? BODY_MOST : id % 3 == 0 ? 200 : 3000;

    return body_length(w->fleet.stage.seed, id, 0, BODY_LINE, most);
}

size_t answer_length(const struct block_world *w, uint32_t id, uint8_t method)
{
    size_t most = w->long_answers && method == CODE_POST ? 2500 : BODY_LINE;

    return body_length(w->fleet.stage.seed, id, ANSWER_VERSION, BODY_LINE, most);
}

size_t file_length(const struct block_world *w, const struct file *f, uint32_t version)
{
    return body_length(w->fleet.stage.seed, f->id + IDS_MAX, version, BODY_LINE, f->max_length);
}

static void on_change(struct stage *s, void *who, uint64_t every)
{
    struct file *f = who;

    f->version++;
    stage_note(s, "file %u has version %u", f->id, f->version);
    if (s->now < START_US + TRAFFIC_US)
        stage_at(s, s->now + stage_below(s, (uint32_t)every), on_change, f, every);
}

static void make_files(struct block_world *w)
{
    static const size_t lengths[] = {BODY_LINE, 300, 2000, BODY_LIMIT, BODY_MOST};
    struct stage *s = &w->fleet.stage;

    w->file_count = 2 * stage_below(s, FILES_MAX / 2 + 1);
    for (unsigned i = 0; i < w->file_count; i++) {
        struct file *f = &w->files[i];

        f->id = i;
        f->version = 1;
        f->max_length = lengths[stage_below(s, 5)];
        f->etag = stage_below(s, 3) != 0;
        if (f->etag && stage_below(s, 2))
            stage_at(s, s->now + stage_below(s, 20 * SECOND), on_change, f,
                     (uint64_t)(4 + stage_below(s, 100)) * SECOND);
    }
}

static bool open_gateway(struct block_world *w)
{
    static const char *const sizes[] = {"16B", "32B", "64B", "128B", "256B", "512B", "1KiB"};
    struct stage *s = &w->fleet.stage;
    char yaml[2048];

    w->tight = stage_below(s, 5) == 0;
    w->long_answers = stage_below(s, 3) == 0;
    w->near_szx = (uint8_t)stage_below(s, 7);
    w->far_szx = (uint8_t)stage_below(s, 7);
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", block_size: %s, transmission: {nstart: 64}}\n"
             "upstreams:\n"
             "  - {name: a, servers: [coap://10.0.9.1], block_size: %s, transmission: {nstart: "
             "64}, timeout: 600s}\n"
             "routes:\n"
             "  - {path: /, to: a}\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB, amplification: %u, body: %uB, transfer_idle: %us, "
             "assembly_memory: %s, transfers: %u}\n",
             1 + stage_below(s, WORKERS_MAX), sizes[w->near_szx], sizes[w->far_szx],
             stage_below(s, 2) ? 0 : 3, BODY_LIMIT, IDLE_S, w->tight ? "64KiB" : "16MiB",
             w->tight ? 16 : 2000);
    return fleet_open(&w->fleet, yaml);
}

static void run(struct block_world *w)
{
    struct stage *s = &w->fleet.stage;

    w->serving = block_server_create(w);
    make_files(w);
    w->doer_count = 1 + stage_below(s, 12);
    w->doers = calloc(w->doer_count, sizeof(w->doers[0]));
    for (unsigned i = 0; i < w->doer_count; i++)
        doer_init(w, i);
    stage_run(s, START_US + TRAFFIC_US);
    for (unsigned i = 0; i < w->doer_count; i++)
        w->doers[i].left = 0;
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
}

int blockwise_run(uint64_t seed, bool trace)
{
    static const struct judge nobody;
    struct block_world *w = calloc(1, sizeof(*w));
    int failed;

    fleet_begin(&w->fleet, "blockwise", seed, trace, &nobody);
    fleet_draw_network(&w->fleet, 0.2);
    if (open_gateway(w))
        run(w);
    failed = fleet_end(&w->fleet);
    block_server_destroy(w->serving);
    free(w->doers);
    free(w);
    return failed;
}
