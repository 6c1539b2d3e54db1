/* The URL of Redis: redis://[USER:PASSWORD@]HOST[:PORT][/DB] or unix:///PATH[?db=N].
 *
 * Pure; any thread. */
#ifndef COAPGW_CONFIG_STORE_URL_H
#define COAPGW_CONFIG_STORE_URL_H

#include "config/config.h"

#define STORE_CREDENTIAL_MAX 1024 /* bytes of a user's name or password */

/* Fills kind, host, port, path, database, username and password; the texts are the caller's, also
 * after an error. Percent-escapes in user, password and path are decoded. NULL, or what is wrong
 * and what to write instead: a static text, which never holds anything of the URL. */
const char *store_url_take(const char *url, struct config_store *out);

#endif
