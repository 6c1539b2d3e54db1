/* The file that holds the journal (gateway/session/journal.h): memory that is mapped by the process
 * and stays when it is killed, because it is a file on tmpfs.
 *
 * In the directory there are, for an instance NAME,
 *
 *     NAME.lock     locked (flock) by the process that has the journal: of two with the same name
 *                   the second one does without
 *     NAME.journal  that process's; made under another name and moved here when it has all that
 *                   the one before it had
 *
 * Main thread. Whatever fails here is said on stderr, once, and the gateway works without. */
#ifndef COAPGW_GATEWAY_CONTROL_JOURNAL_FILE_H
#define COAPGW_GATEWAY_CONTROL_JOURNAL_FILE_H

#include <stdint.h>

#include "config/config.h"

struct journal;
struct journal_file;

/* Makes the journal of this process out of the one before. `now_us` is the workers' time. NULL: the
 * configuration wants none, or there can be none. */
struct journal_file *journal_file_open(const struct config *config, uint64_t now_us);

/* Valid until journal_file_close(). NULL for NULL. */
const struct journal *journal_file_get(const struct journal_file *file);

/* To be called about each second with the workers' time, so that the next process can tell how long
 * ago that is, however the wall clock is set. NULL is allowed. */
void journal_file_tick(struct journal_file *file, uint64_t now_us);

/* The workers have ended. What is in the journal stays. NULL is allowed. */
void journal_file_close(struct journal_file *file);

#endif
