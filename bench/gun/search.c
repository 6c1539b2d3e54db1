#include "bench/gun/run.h"

void search_begin(struct search *s, double from, double to, unsigned steps)
{
    *s = (struct search){.next = from, .to = to, .left = steps};
}

/* Doubles while all goes well; then halves what lies between the best and the worst. Where even the
 * first rate is too high, the search goes on below it. */
void search_step(struct search *s, bool good)
{
    if (good)
        s->good = s->next;
    else
        s->bad = s->next;
    if (s->bad == 0) {
        if (s->next >= s->to)
            s->next = 0;
        else
            s->next = s->next * 2 < s->to ? s->next * 2 : s->to;
        return;
    }
    s->next = s->left ? (s->good + s->bad) / 2 : 0;
    if (s->left)
        s->left--;
}
