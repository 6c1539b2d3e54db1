/* Secrets that stand in the first line of a file. One thread for each report. */
#ifndef COAPGW_CONFIG_SECRET_H
#define COAPGW_CONFIG_SECRET_H

#include "config/place.h"

#define SECRET_MAX 1024 /* bytes */

/* Reads the first line, without its end, into `line`, which is to be wiped. `what` is what it
 * holds, such as "password". False: reported; the file's name is not shown, because some write the
 * secret itself there. */
bool secret_read(const struct place *at, const char *file, const char *what,
                 char line[SECRET_MAX + 1]);

/* The same for a file that must not be open to everybody. */
bool secret_read_private(const struct place *at, const char *file, const char *what,
                         char line[SECRET_MAX + 1]);

#endif
