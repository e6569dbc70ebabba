/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the daemon's JSON as text for people.
 * Way: objectfsctl.c -> here -> standard output. Thread: the only one. Owns: nothing.
 * Holds: a name from the share never reaches the terminal with control bytes in it; a field that is
 * missing prints as nothing, it never ends the program.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "../base/stats_table.h"
#include "ctl.h"

#define LABEL_WIDTH 12

void print_safe_to(FILE *file, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)(text != NULL ? text : ""); *p != '\0';
			p++) {
		if (*p < 0x20 || *p == 0x7f) {
			fprintf(file, "\\x%02x", *p);
		} else {
			putc(*p, file);
		}
	}
}

void print_safe(const char *text)
{
	print_safe_to(stdout, text);
}

void print_padded(const char *text, int width)
{
	int len = (int)strlen(text);

	print_safe(text);
	printf("%*s", len < width ? width - len : 0, "");
}

const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

int64_t number_of(const json_t *o, const char *key)
{
	return (int64_t)json_number_value(json_object_get(o, key));
}

void human_bytes(double bytes, char *buf, size_t room)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned i = 0;

	while (bytes >= 1024 && i < 6) {
		bytes /= 1024;
		i++;
	}
	snprintf(buf, room, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

static void print_bytes(int64_t bytes)
{
	char text[32];

	human_bytes((double)bytes, text, sizeof(text));
	fputs(text, stdout);
}

void print_duration(int64_t s)
{
	if (s < 60) {
		printf("%" PRId64 " s", s);
	} else if (s < 3600) {
		printf("%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
	} else if (s < 86400) {
		printf("%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
	} else {
		printf("%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
	}
}

static void label(const char *name)
{
	printf("  %-*s ", LABEL_WIDTH, name);
}

/* What local programs that read the mirror get: nobody may find out by a backup of zeros. */
static void print_guard(const json_t *guard)
{
	const char *state = text_of(guard, "state");

	label("locally");
	if (strcmp(state, "on") == 0) {
		printf("guarded: programs that open one of %" PRId64 " stubs wait for its data",
				number_of(guard, "stubs"));
		if (number_of(guard, "waiting") > 0) {
			printf(", %" PRId64 " do", number_of(guard, "waiting"));
		}
	} else if (strcmp(state, "marking") == 0) {
		printf("NOT YET GUARDED: programs may read zeros from stubs until all are marked; %" PRId64
		       " are", number_of(guard, "stubs"));
	} else if (strcmp(state, "partly") == 0) {
		printf("PARTLY GUARDED: programs read zeros from %" PRId64 " stubs (guard limit)",
				number_of(guard, "unguarded"));
	} else {
		printf("NOT GUARDED: programs read zeros from stubs (%s)", text_of(guard, "why"));
	}
	putchar('\n');
}

static void print_login(const json_t *v)
{
	const json_t *login = json_object_get(v, "login");
	time_t expires = (time_t)number_of(v, "login_expires");
	char text[64];
	struct tm tm;

	if (!json_is_object(login)) {
		return;
	}
	label("credentials");
	print_safe(text_of(login, "source")[0] != '\0' ? text_of(login, "source") : "none yet");
	if (expires > 0 && gmtime_r(&expires, &tm) != NULL &&
			strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) > 0) {
		printf(", valid until %s, renewed before", text);
	}
	if (text_of(login, "error")[0] != '\0') {
		printf("; the last search failed: ");
		print_safe(text_of(login, "error"));
	}
	putchar('\n');
}

/* Whose rights these are: nothing, before the first client has come in. */
static void print_accounts(const json_t *accounts)
{
	const char *recorded = text_of(accounts, "recorded"), *here = text_of(accounts, "here");

	if (recorded[0] == '\0') {
		return;
	}
	label("accounts");
	printf("of the %s %s", json_is_true(json_object_get(accounts, "domain")) ? "domain" : "machine",
			recorded);
	if (number_of(accounts, "named") > 0) {
		printf(", %" PRId64 " SIDs known by name", number_of(accounts, "named"));
	}
	if (here[0] != '\0' && strcmp(here, recorded) != 0) {
		printf("; THIS SERVER HAS OTHERS: %s", here);
	}
	putchar('\n');
}

static void print_volume(const json_t *v)
{
	const json_t *fence = json_object_get(v, "fence"), *denied;
	const char *why = text_of(v, "why");
	size_t i;

	printf("volume %s: %s", text_of(v, "name"), text_of(v, "state"));
	if (why[0] != '\0') {
		printf(": ");
		print_safe(why);
	}
	putchar('\n');
	if (text_of(v, "read_only")[0] != '\0') {
		label("READ ONLY");
		print_safe(text_of(v, "read_only"));
		putchar('\n');
	}
	print_guard(json_object_get(v, "guard"));
	label("store");
	print_safe(text_of(v, "store"));
	if (text_of(v, "prefix")[0] != '\0') {
		printf(", prefix ");
		print_safe(text_of(v, "prefix"));
	}
	putchar('\n');
	print_login(v);
	json_array_foreach(json_object_get(v, "denied"), i, denied)
	{
		label("DENIED");
		print_safe(json_string_value(denied));
		putchar('\n');
	}
	if (strcmp(text_of(v, "state"), "ready") == 0) {
		label("fence");
		printf("F%" PRId64 "%s%s\n", number_of(fence, "class"),
				json_is_true(json_object_get(fence, "versioned")) ? ", versioned" : "",
				number_of(fence, "class") < 3 ? " (objectfsctl doctor says what the store lacks)"
							      : "");
		if (strcmp(text_of(v, "trust"), "signed") == 0) {
			label("metadata");
			printf("signed; not believed since the start: %" PRId64 " objects\n",
					number_of(v, "unproven"));
		}
		label("volume id");
		printf("%s\n", text_of(v, "uuid"));
		print_accounts(json_object_get(v, "accounts"));
	}
	label("mirror");
	print_safe(text_of(v, "mirror"));
	printf(" (records in %s)\n", text_of(v, "record_xattr"));
	label("sessions");
	printf("%" PRId64 "\n", number_of(v, "sessions"));
	label("pending");
	printf("%" PRId64, number_of(v, "pending"));
	if (number_of(v, "pending") > 0) {
		printf(", the oldest for ");
		print_duration(number_of(v, "oldest_pending_s"));
	}
	if (number_of(v, "log_queued") > 0) {
		printf(", %" PRId64 " metadata changes waiting for the log",
				number_of(v, "log_queued"));
	}
	putchar('\n');
	if (number_of(v, "removals_held") > 0) {
		label("REMOVALS");
		printf("%" PRId64 " names are gone from the bucket and kept here, below ",
				number_of(v, "removals_held"));
		print_safe(text_of(v, "removals_below"));
		printf(": objectfsctl accept-removals if that was meant\n");
	}
	label("space");
	print_bytes(number_of(v, "used_bytes"));
	printf(" of ");
	print_bytes(number_of(v, "capacity_bytes"));
	printf(" in S3, %" PRId64 " names known\n", number_of(v, "rows"));
}

static void print_counter(const json_t *counters, const char *name, const char *unit,
		const char *help)
{
	int64_t value = number_of(counters, name);

	if (value == 0) {
		return;
	}
	printf("  %-16s ", name);
	if (strcmp(unit, "bytes") == 0) {
		print_bytes(value);
	} else {
		printf("%" PRId64, value);
	}
	printf("  (%s)\n", help);
}

void print_status(const json_t *answer)
{
	const json_t *counters = json_object_get(answer, "counters");
	const json_t *v;
	size_t i;

	printf("objectfs-cached %s, process %" PRId64 ", running for ", text_of(answer, "version"),
			number_of(answer, "pid"));
	print_duration(number_of(answer, "uptime_s"));
	printf("\n  node %s, log level %s, configuration ", text_of(answer, "node"),
			text_of(answer, "log_level"));
	print_safe(text_of(answer, "configuration"));
	putchar('\n');
	json_array_foreach(json_object_get(answer, "volumes"), i, v)
	{
		print_volume(v);
	}
	printf("counters since the start\n");
#define COUNTER_ROW(name, kind, unit, help) print_counter(counters, #name, #unit, help);
	OFS_STATS_TABLE(COUNTER_ROW)
#undef COUNTER_ROW
}

static void print_items(const json_t *list)
{
	const json_t *item;
	size_t i;

	if (json_array_size(list) == 0) {
		return;
	}
	printf("%-12s %8s %-10s %-10s %s\n", "VOLUME", "SECONDS", "KIND", "STATE", "PATH");
	json_array_foreach(list, i, item)
	{
		const char *reason = text_of(item, "reason");

		printf("%-12s %8" PRId64 " %-10s %-10s ", text_of(item, "volume"),
				number_of(item, "since_s"), text_of(item, "kind"),
				text_of(item, "state"));
		print_safe(text_of(item, "path"));
		if (reason[0] != '\0') {
			printf("\n             ");
			print_safe(reason);
		}
		putchar('\n');
	}
}

void print_pending(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "pending");
	bool more = json_is_true(json_object_get(answer, "more"));

	if (json_array_size(list) == 0 && !more) {
		printf("nothing is pending\n");
	}
	print_items(list);
	if (more) {
		printf("(there is more: objectfsctl status says how much)\n");
	}
}

void print_left(const json_t *answer)
{
	if (json_is_true(json_object_get(answer, "begun"))) {
		printf("begun; objectfsctl flush --wait waits for the end\n");
		return;
	}
	if (json_is_true(json_object_get(answer, "done"))) {
		printf("all that was pending is in S3\n");
	}
	print_items(json_object_get(answer, "left"));
}

static void print_value(const json_t *v)
{
	const json_t *item;
	size_t i;

	switch (json_typeof(v)) {
	case JSON_STRING:
		print_safe(json_string_value(v));
		break;
	case JSON_INTEGER:
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case JSON_REAL:
		printf("%.6f", json_real_value(v));
		break;
	case JSON_ARRAY:
		json_array_foreach(v, i, item)
		{
			printf("%s", i > 0 ? " " : "");
			print_value(item);
		}
		break;
	case JSON_TRUE:
		printf("yes");
		break;
	case JSON_FALSE:
		printf("no");
		break;
	default:
		printf("-");
		break;
	}
}

static void print_fields(const json_t *o, int indent)
{
	const char *key;
	const json_t *v;
	void *it;

	for (it = json_object_iter((json_t *)o); it != NULL;
			it = json_object_iter_next((json_t *)o, it)) {
		key = json_object_iter_key(it);
		v = json_object_iter_value(it);
		if (json_is_object(v)) {
			printf("%*s%s\n", indent, "", key);
			print_fields(v, indent + 2);
			continue;
		}
		printf("%*s%-*s ", indent, "", 16 - indent, key);
		print_value(v);
		putchar('\n');
	}
}

void print_object(const json_t *answer)
{
	print_fields(answer, 0);
}
