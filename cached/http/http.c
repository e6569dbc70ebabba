/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: pages for monitoring, over HTTP: /metrics, /health, /ready, /live.
 * Way: main -> http_open -> libmicrohttpd's threads -> on_request -> counters, or ask.c -> the page.
 * Thread: open and close: core, outside the loop; on_request: one thread for each connection, so that
 * /live is answered while others wait for a core that hangs.
 * Owns: struct http: the library's daemon with its threads.
 * Holds: (1) nothing of the core's is touched here but the mailbox. (2) Pages only tell; none changes
 * anything, none needs or shows a secret. (3) Connections, their time and their memory are limited.
 *
 *	/live   200 while the process runs
 *	/ready  200 if no component has failed: every volume is ready, every mirror can be written; else 503
 *	/health JSON: components with state, reason, remedy; 503 if one has failed
 *	/metrics Prometheus text: counters and times from here, volumes from the core
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http.h"
#include "private.h"
#include "../admin/findings.h"
#include "../base/address.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/core.h"

#define CONNECTIONS_MAX 32u
#define IDLE_S 10u
#define REQUEST_BYTES_MAX ((size_t)16384)
#define STACK_BYTES ((size_t)512 << 10)

struct http { /* talloc child of the core */
	struct core *core;
	struct MHD_Daemon *mhd;
};

struct page {
	unsigned status;
	const char *type;
	char *text; /* malloc'ed; NULL: out of memory */
	size_t len;
};

static void page_text(struct page *p, unsigned status, const char *text)
{
	p->status = status;
	p->type = "text/plain; charset=utf-8";
	p->text = strdup(text);
	p->len = strlen(text);
}

static void page_live(struct core *core, struct page *p)
{
	(void)core;
	page_text(p, MHD_HTTP_OK, "live\n");
}

static bool health_failed(const json_t *health)
{
	const char *state = json_string_value(json_object_get(health, "state"));

	return state == NULL || strcmp(state, "failed") == 0;
}

static json_t *health_of_a_core_that_hangs(void)
{
	return json_pack("{s:s, s:[o]}", "state", "failed", "components",
			finding_json(FINDING_CORE_HANGS, NULL, "waited for 2 s"));
}

/* A line for each failure. */
static void page_ready(struct core *core, struct page *p)
{
	json_t *health = ask_core(core, "health");
	const json_t *item;
	FILE *f;
	size_t i;

	if (health == NULL) {
		health = health_of_a_core_that_hangs();
	}
	if (!health_failed(health)) {
		page_text(p, MHD_HTTP_OK, "ready\n");
		json_decref(health);
		return;
	}
	p->status = MHD_HTTP_SERVICE_UNAVAILABLE;
	p->type = "text/plain; charset=utf-8";
	f = open_memstream(&p->text, &p->len);
	json_array_foreach(json_object_get(health, "components"), i, item)
	{
		const char *volume = json_string_value(json_object_get(item, "volume"));
		const char *state = json_string_value(json_object_get(item, "state"));

		if (f != NULL && state != NULL && strcmp(state, "failed") == 0) {
			fprintf(f, "not ready: %s%s%s: %s (%s)\n",
					json_string_value(json_object_get(item, "component")),
					volume != NULL ? " of volume " : "",
					volume != NULL ? volume : "",
					json_string_value(json_object_get(item, "what")),
					json_string_value(json_object_get(item, "reason")));
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	json_decref(health);
}

static void page_health(struct core *core, struct page *p)
{
	json_t *health = ask_core(core, "health");

	if (health == NULL) {
		health = health_of_a_core_that_hangs();
	}
	p->status = health_failed(health) ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
	p->type = "application/json";
	p->text = json_dumps(health, JSON_INDENT(2));
	p->len = p->text != NULL ? strlen(p->text) : 0;
	json_decref(health);
}

static void page_metrics(struct core *core, struct page *p)
{
	json_t *status = ask_core(core, "status");

	p->status = MHD_HTTP_OK;
	p->type = "text/plain; version=0.0.4; charset=utf-8"; /* Prometheus: Exposition formats */
	p->text = metrics_text(status, &p->len);
	json_decref(status);
}

static const struct {
	const char *path;
	void (*fn)(struct core *core, struct page *p);
} pages[] = {
	{"/live", page_live},
	{"/ready", page_ready},
	{"/health", page_health},
	{"/metrics", page_metrics},
};
#define PAGES (sizeof(pages) / sizeof(pages[0]))

static void page_make(struct core *core, const char *path, const char *method, struct page *p)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		page_text(p, MHD_HTTP_METHOD_NOT_ALLOWED, "these pages can be read only: GET\n");
		return;
	}
	for (size_t i = 0; i < PAGES; i++) {
		if (strcmp(pages[i].path, path) == 0) {
			pages[i].fn(core, p);
			return;
		}
	}
	page_text(p, MHD_HTTP_NOT_FOUND, "there are /metrics, /health, /ready and /live\n");
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
		const char *method, const char *version, const char *upload, size_t *upload_bytes,
		void **context)
{
	static int seen;
	struct http *h = arg;
	struct MHD_Response *response;
	struct page p = {0};
	enum MHD_Result ret;

	(void)version;
	(void)upload;
	if (*context == NULL) { /* the head only: the answer is due at the next call */
		*context = &seen;
		return MHD_YES;
	}
	if (*upload_bytes != 0) { /* a body: nobody wants it */
		*upload_bytes = 0;
		return MHD_YES;
	}
	stats_add(http_requests, 1);
	page_make(h->core, path, method, &p);
	if (p.text == NULL) {
		return MHD_NO;
	}
	response = MHD_create_response_from_buffer(p.len, p.text, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(p.text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, p.type);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (p.status == MHD_HTTP_METHOD_NOT_ALLOWED) {
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	}
	ret = MHD_queue_response(connection, p.status, response);
	MHD_destroy_response(response);
	return ret;
}

static void on_library_log(void *arg, const char *fmt, va_list ap)
{
	char text[512];

	(void)arg;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	log_debug("http", "%s", text);
}

void http_open(struct core *core)
{
	const char *listen = core->conf->global.http_listen;
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
			 MHD_USE_POLL | MHD_USE_ERROR_LOG;
	struct sockaddr_storage where;
	struct http *h;

	if (listen == NULL || address_parse(listen, &where) != 0) {
		return;
	}
	h = talloc_zero(core, struct http);
	if (h == NULL) {
		core->http_error = "out of memory";
		return;
	}
	h->core = core;
	if (where.ss_family == AF_INET6) {
		flags |= MHD_USE_IPv6;
	}
	errno = 0;
	h->mhd = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER,
			on_library_log, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&where,
			MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
			IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_BYTES_MAX,
			MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES,
			MHD_OPTION_END);
	if (h->mhd == NULL) {
		core->http_error = talloc_asprintf(core, "http listen = %s: %s", listen,
				errno != 0 ? strerror(errno) : "cannot listen");
		log_error("http", "%s; metrics and health pages are not served",
				core->http_error != NULL ? core->http_error : "out of memory");
		talloc_free(h);
		return;
	}
	core->http = h;
	log_notice("http", "metrics and health pages on http://%s%s", listen,
			address_is_loopback(&where) ? ""
						    : ", for everybody who can reach this address");
}

void http_close(struct core *core)
{
	if (core->http == NULL) {
		return;
	}
	MHD_stop_daemon(core->http->mhd);
	TALLOC_FREE(core->http);
}
