/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pages for monitoring: /metrics, /health, /ready, /live. See http.c. */
#ifndef OFS_HTTP_H
#define OFS_HTTP_H

struct core;

/* Serve on `http listen`, if it is set; fills core->http, or core->http_error: shares matter more than
 * their metrics, so a port that is taken keeps nobody from working. Core thread, when all else serves. */
void http_open(struct core *core);
/* Ends its threads; before core_close, outside the loop. */
void http_close(struct core *core);

#endif
