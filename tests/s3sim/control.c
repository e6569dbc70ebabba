/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what is changed and asked while the server runs, on a port of its own.
 *
 *   GET /counts       GET /settings  PUT /settings {name: number, "fence": "f2"}
 *   GET /faults  POST /faults {...}  DELETE /faults  (fault.h)
 *   PUT /keys/ACCESS {"secret", "token", "error", "deny": [OPERATION ...]}
 *
 * Way:    tests/lib/s3sim.py, or curl; another daemon of libmicrohttpd in the same loop.
 * Thread: one.
 * Holds:  1. What was answered 200 holds for each request whose headers come afterwards.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "control.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "fault.h"
#include "req.h"

#define ORDER_MAX_BYTES 65536u

static const struct {
	const char *name;
	size_t at;
	bool is_flag;
} settings[] = {
	{ "rtt_us", offsetof(struct settings, rtt_us), false },
	{ "bytes_s", offsetof(struct settings, bytes_s), false },
	{ "all_bytes_s", offsetof(struct settings, all_bytes_s), false },
	{ "requests_s", offsetof(struct settings, requests_s), false },
	{ "clock_s", offsetof(struct settings, clock_s), false },
	{ "restore_ms", offsetof(struct settings, restore_ms), false },
	{ "part_min_bytes", offsetof(struct settings, part_min_bytes), false },
	{ "bare_etags", offsetof(struct settings, bare_etags), true },
	{ "silent_complete", offsetof(struct settings, silent_complete), true },
};

struct order {
	char *text;
	size_t len;
};

bool control_set(struct sim *s, const char *name, int64_t value)
{
	for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		void *to = (char *)&s->set + settings[i].at;

		if (strcmp(settings[i].name, name) != 0) {
			continue;
		}
		if (settings[i].is_flag) {
			*(bool *)to = value != 0;
		} else {
			*(int64_t *)to = value;
		}
		return true;
	}
	return false;
}

static const char *set_all(struct sim *s, json_t *order)
{
	const char *name;
	json_t *value;

	json_object_foreach(order, name, value) {
		if (strcmp(name, "fence") == 0) {
			if (!json_is_string(value) || !settings_fence(&s->set, json_string_value(value))) {
				return "fence: f0, f1, f2 or f3";
			}
		} else if (!json_is_integer(value) || !control_set(s, name, json_integer_value(value))) {
			return "no such setting, or not a number";
		}
	}
	return NULL;
}

static json_t *get_settings(const struct sim *s)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		const void *at = (const char *)&s->set + settings[i].at;

		json_object_set_new(all, settings[i].name, json_integer(settings[i].is_flag ? *(const bool *)at
											  : *(const int64_t *)at));
	}
	return all;
}

static json_t *get_counts(const struct sim *s)
{
	json_t *all = json_object(), *ops = json_object();

	for (const struct count *c = s->counts; c != NULL; c = c->next) {
		json_t *op = json_object_get(ops, c->name);
		char status[16];

		if (op == NULL) {
			op = json_object();
			json_object_set_new(ops, c->name, op);
		}
		snprintf(status, sizeof(status), "%u", c->status);
		json_object_set_new(op, status, json_integer((json_int_t)c->requests));
	}
	json_object_set_new(all, "requests", ops);
	return all;
}

static struct credential *key_find(const struct sim *s, const char *access)
{
	struct credential *c = s->keys;

	while (c != NULL && strcmp(c->access, access) != 0) {
		c = c->next;
	}
	return c;
}

/* What is not said stays as it is. */
static const char *put_key(struct sim *s, const char *access, const json_t *order)
{
	const char *secret = NULL, *token = NULL;
	struct credential *c = key_find(s, access);
	json_t *error = NULL, *deny = NULL, *name;
	size_t i;

	if (json_unpack((json_t *)order, "{s?s, s?s, s?o, s?o}", "secret", &secret, "token", &token, "error", &error, "deny",
			    &deny) != 0 || (c == NULL && secret == NULL)) {
		return "not {secret, token, error, deny}";
	}
	if (c == NULL) {
		c = credential_add(s, access, secret, token == NULL ? "" : token);
	} else {
		c->secret = secret == NULL ? c->secret : talloc_strdup(c, secret);
		c->token = token == NULL ? c->token : talloc_strdup(c, token);
		c->day[0] = '\0';
	}
	if (c == NULL || c->secret == NULL || c->token == NULL) {
		return "out of memory";
	}
	if (error != NULL) {
		c->error = json_is_string(error) ? talloc_strdup(c, json_string_value(error)) : NULL;
	}
	if (deny != NULL) {
		c->deny = talloc_strdup(c, ",");
		json_array_foreach(deny, i, name) {
			c->deny = talloc_asprintf_append(c->deny, "%s,", json_is_string(name) ? json_string_value(name) : "");
		}
	}
	return NULL;
}

/* --- requests --- */

static enum MHD_Result answer(struct MHD_Connection *conn, unsigned status, json_t *document, const char *wrong)
{
	char *text = NULL;
	struct MHD_Response *response;
	enum MHD_Result result;

	if (document == NULL) {
		document = wrong == NULL ? json_object() : json_pack("{s:s}", "error", wrong);
	}
	text = json_dumps(document, JSON_INDENT(1) | JSON_SORT_KEYS);
	json_decref(document);
	response = MHD_create_response_from_buffer(text == NULL ? 0 : strlen(text), text == NULL ? "" : text,
			text == NULL ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", "application/json");
	result = MHD_queue_response(conn, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result serve_get(struct sim *s, struct MHD_Connection *conn, const char *path)
{
	json_t *document = strcmp(path, "/counts") == 0	   ? get_counts(s)
			   : strcmp(path, "/settings") == 0 ? get_settings(s)
			   : strcmp(path, "/faults") == 0   ? fault_list(s)
							    : NULL;

	return answer(conn, document == NULL ? 404 : 200, document, "no such thing");
}

static enum MHD_Result serve_delete(struct sim *s, struct MHD_Connection *conn, const char *path)
{
	if (strcmp(path, "/faults") != 0) {
		return answer(conn, 404, NULL, "no such thing");
	}
	fault_clear(s);
	return answer(conn, 200, NULL, NULL);
}

static enum MHD_Result serve_change(struct sim *s, struct MHD_Connection *conn, const char *path, struct order *o)
{
	json_error_t error;
	json_t *document = json_loadb(o->text == NULL ? "" : o->text, o->len, 0, &error);
	const char *wrong = "no such thing";

	if (!json_is_object(document)) {
		wrong = "not a JSON object";
	} else if (strcmp(path, "/settings") == 0) {
		wrong = set_all(s, document);
	} else if (strcmp(path, "/faults") == 0) {
		wrong = fault_add(s, document);
	} else if (strncmp(path, "/keys/", 6) == 0) {
		wrong = put_key(s, path + 6, document);
	}
	json_decref(document);
	return answer(conn, wrong == NULL ? 200 : 400, NULL, wrong);
}

static enum MHD_Result on_order(void *arg, struct MHD_Connection *conn, const char *path, const char *method,
		const char *version, const char *data, size_t *len, void **context)
{
	struct order *o = *context;
	char *grown;

	(void)version;
	if (o == NULL) {
		*context = calloc(1, sizeof(*o));
		return *context == NULL ? MHD_NO : MHD_YES;
	}
	if (*len > 0) {
		grown = o->len + *len > ORDER_MAX_BYTES ? NULL : realloc(o->text, o->len + *len);
		if (grown == NULL) {
			return MHD_NO;
		}
		memcpy(grown + o->len, data, *len);
		o->text = grown;
		o->len += *len;
		*len = 0;
		return MHD_YES;
	}
	if (strcmp(method, "GET") == 0) {
		return serve_get(arg, conn, path);
	}
	if (strcmp(method, "DELETE") == 0) {
		return serve_delete(arg, conn, path);
	}
	return serve_change(arg, conn, path, o);
}

static void on_end(void *arg, struct MHD_Connection *conn, void **context, enum MHD_RequestTerminationCode code)
{
	struct order *o = *context;

	(void)arg;
	(void)conn;
	(void)code;
	if (o != NULL) {
		free(o->text);
		free(o);
		*context = NULL;
	}
}

int control_start(struct sim *s, unsigned port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	s->control = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_order, s, MHD_OPTION_SOCK_ADDR, &address,
			MHD_OPTION_NOTIFY_COMPLETED, on_end, s, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
	return s->control == NULL ? -EADDRINUSE : 0;
}

int control_fd(const struct sim *s)
{
	return s->control == NULL ? -1 : MHD_get_daemon_info(s->control, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int64_t control_patience(const struct sim *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (s->control == NULL || MHD_get_timeout(s->control, &ms) != MHD_YES) {
		return -1;
	}
	return ms > 60000 ? 60000000000 : (int64_t)ms * 1000000;
}

void control_run(struct sim *s)
{
	if (s->control != NULL) {
		MHD_run(s->control);
	}
}

void control_stop(struct sim *s)
{
	if (s->control != NULL) {
		MHD_stop_daemon(s->control);
		s->control = NULL;
	}
}
