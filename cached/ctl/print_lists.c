/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: answers that are lists, as columns for people.
 * Way: objectfsctl.c -> here -> standard output. Thread: the only one. Owns: nothing.
 * Holds: as print.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "ctl.h"

static bool is_true(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void print_time(const json_t *seconds)
{
	time_t t = (time_t)json_number_value(seconds);
	char text[32] = "-";
	struct tm tm;

	if (json_is_number(seconds) && localtime_r(&t, &tm) != NULL) {
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm);
	}
	printf("%-16s", text);
}

void print_ls(const json_t *answer)
{
	const json_t *e;
	size_t i;

	if (strcmp(text_of(answer, "from"), "0") == 0 &&
			json_array_size(json_object_get(answer, "entries")) > 0) {
		printf("%-11s %-5s %-6s %14s  %-16s  %s\n", "STATE", "S3", "PIN", "SIZE",
				"MODIFIED", "NAME");
	}
	json_array_foreach(json_object_get(answer, "entries"), i, e)
	{
		printf("%-11s %-5s %-6s %14" PRId64 "  ", text_of(e, "state"), text_of(e, "in_s3"),
				is_true(e, "pinned") ? "pinned" : "-", number_of(e, "size"));
		print_time(json_object_get(e, "mtime"));
		printf("  ");
		print_safe(text_of(e, "name"));
		printf("%s\n", strcmp(text_of(e, "type"), "directory") == 0 ? "/" : "");
	}
	if (json_is_null(json_object_get(answer, "next")) && !is_true(answer, "listed")) {
		printf("(nobody has listed this directory yet: S3 may have more; objectfsctl "
		       "refresh "
		       "looks)\n");
	}
}

void print_sessions(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "sessions"), *s;
	char in[32], out[32];
	size_t i;

	if (json_array_size(list) == 0) {
		printf("nobody is connected\n");
		return;
	}
	printf("%-12s %8s %-16s %-24s %9s %9s %11s %11s\n", "VOLUME", "PROCESS", "USER", "ADDRESS",
			"REQUESTS", "OPENS", "READ", "WRITTEN");
	json_array_foreach(list, i, s)
	{
		human_bytes((double)number_of(s, "client_read_bytes"), in, sizeof(in));
		human_bytes((double)number_of(s, "client_write_bytes"), out, sizeof(out));
		printf("%-12s %8" PRId64 " ", text_of(s, "volume"), number_of(s, "pid"));
		print_padded(text_of(s, "user"), 16);
		putchar(' ');
		print_padded(text_of(s, "address"), 24);
		printf(" %9" PRId64 " %9" PRId64 " %11s %11s\n", number_of(s, "requests"),
				number_of(s, "opens_here") + number_of(s, "opens_away"), in, out);
	}
	if (number_of(answer, "count") > (int64_t)json_array_size(list)) {
		printf("(%" PRId64 " are connected; these did most)\n", number_of(answer, "count"));
	}
}

void print_config(const json_t *answer)
{
	const json_t *o, *changed = json_object_get(answer, "changed");
	const char *section = "";
	size_t i;

	json_array_foreach(json_object_get(answer, "options"), i, o)
	{
		if (strcmp(section, text_of(o, "section")) != 0) {
			section = text_of(o, "section");
			printf("%s[%s]\n", i > 0 ? "\n" : "", section);
		}
		printf("%-18s = ", text_of(o, "key"));
		print_safe(text_of(o, "value"));
		printf("    # ");
		print_safe(text_of(o, "source"));
		putchar('\n');
	}
	if (text_of(answer, "file_error")[0] != '\0') {
		printf("\nthe file cannot be used any more: ");
		print_safe(text_of(answer, "file_error"));
		putchar('\n');
	} else if (json_array_size(changed) > 0) {
		printf("\nthe file says otherwise by now; not in force before a restart:\n");
		json_array_foreach(changed, i, o)
		{
			printf("  ");
			print_safe(json_string_value(o));
			putchar('\n');
		}
	}
}

static void print_rename_cost(const json_t *r)
{
	const json_t *cost = json_object_get(r, "cost_usd");

	if (cost == NULL) {
		return;
	}
	printf("\n  ");
	if (json_object_get(r, "at_least") != NULL) {
		printf("at least %" PRId64 " objects, ", number_of(r, "at_least"));
	}
	printf("%" PRId64 " archived; requests for some $%.2f by AWS's list", number_of(r, "archived"),
			json_real_value(cost));
}

void print_renames(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "renames"), *r;
	size_t i;

	if (json_object_get(answer, "allowed") != NULL) {
		printf("%" PRId64 " renames may begin\n", number_of(answer, "allowed"));
		return;
	}
	if (json_array_size(list) == 0) {
		printf("nothing is being renamed\n");
		return;
	}
	json_array_foreach(list, i, r)
	{
		printf("%s %s in volume %s", text_of(r, "state"), text_of(r, "type"), text_of(r, "volume"));
		if (strcmp(text_of(r, "state"), "stays") != 0) {
			printf(": for ");
			print_duration(number_of(r, "since_s"));
		}
		printf("\n  from  ");
		print_safe(text_of(r, "from"));
		printf("\n  to    ");
		print_safe(text_of(r, "to"));
		if (json_is_integer(json_object_get(r, "objects"))) {
			printf("\n  %s: %" PRId64 " of %" PRId64 " objects are copied, %" PRId64
			       " old ones removed", text_of(r, "phase"), number_of(r, "copied"),
					number_of(r, "objects"), number_of(r, "removed"));
		} else if (text_of(r, "phase")[0] != '\0') {
			printf("\n  listing what there is to copy");
		}
		print_rename_cost(r);
		if (text_of(r, "blocked_by")[0] != '\0') {
			printf("\n  waits for ");
			print_safe(text_of(r, "blocked_by"));
		}
		if (text_of(r, "reason")[0] != '\0') {
			printf("\n  ");
			print_safe(text_of(r, "reason"));
		}
		putchar('\n');
	}
	if (is_true(answer, "more")) {
		printf("(there is more)\n");
	}
}

void print_conflicts(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "conflicts"), *c;
	size_t i;

	if (json_array_size(list) == 0) {
		printf("no conflicts since the start\n");
		return;
	}
	json_array_foreach(list, i, c)
	{
		print_time(json_object_get(c, "at"));
		printf("  %s:", text_of(c, "volume"));
		print_safe(text_of(c, "path"));
		printf("\n  ");
		print_safe(text_of(c, "reason"));
		if (!json_is_string(json_object_get(c, "copy"))) {
			printf("\n  the other version is in the bucket only: too large to be copied");
		} else if (strcmp(text_of(c, "copy"), text_of(c, "path")) == 0) {
			printf("\n  it is back");
		} else {
			printf("\n  the other version: ");
			print_safe(text_of(c, "copy"));
		}
		putchar('\n');
	}
}

void print_pins(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "pins"), *p;
	size_t i;

	if (json_array_size(list) == 0) {
		printf("nothing is pinned\n");
	}
	json_array_foreach(list, i, p)
	{
		printf("%s:", text_of(p, "volume"));
		print_safe(json_is_string(json_object_get(p, "path")) ? text_of(p, "path")
								      : "(not known where)");
		putchar('\n');
	}
}

void print_tasks(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "tasks"), *t;
	char size[32];
	size_t i;

	if (json_array_size(list) == 0) {
		printf("nothing is under way\n");
	}
	json_array_foreach(list, i, t)
	{
		printf("%s %s:", text_of(t, "task"), text_of(t, "volume"));
		print_safe(text_of(t, "path"));
		printf("  %" PRId64 " left", number_of(t, "left"));
		if (json_object_get(t, "files") != NULL) {
			human_bytes((double)number_of(t, "bytes"), size, sizeof(size));
			printf(", %" PRId64 " done with %s, %" PRId64
			       " had nothing to be done, %" PRId64 " stay",
					number_of(t, "files"), size, number_of(t, "nothing_to_do"),
					number_of(t, "stay"));
		}
		putchar('\n');
	}
}

void print_nodes(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "nodes"), *n;
	size_t i;

	printf("%-12s %-32s %-8s %-20s %8s  %s\n", "VOLUME", "NODE", "SERVES", "HOST", "LOG", "VERSION");
	json_array_foreach(list, i, n)
	{
		printf("%-12s %-32s %-8s ", text_of(n, "volume"), text_of(n, "node"),
				is_true(n, "here") ? "here" : is_true(n, "serving") ? "yes" : "no");
		print_padded(text_of(n, "host"), 20);
		printf(" %8" PRId64 "  ", number_of(n, "log"));
		print_safe(text_of(n, "version"));
		putchar('\n');
	}
}

void print_fsck(const json_t *answer)
{
	const json_t *found = json_object_get(answer, "findings"), *x;
	bool repair = is_true(answer, "repair");
	size_t i;

	json_array_foreach(found, i, x)
	{
		printf("%-14s ", text_of(x, "kind"));
		print_safe(text_of(x, "key"));
		printf("\n               ");
		print_safe(text_of(x, "detail"));
		if (text_of(x, "mend")[0] != '\0') {
			printf("\n               %s: %s", repair ? "mend" : "with --repair", text_of(x, "mend"));
		}
		putchar('\n');
	}
	if (is_true(answer, "more")) {
		printf("(there is more)\n");
	}
	printf("volume %s: %" PRId64 " objects and %" PRId64 " large values looked at, %" PRId64 " found, %" PRId64
	       " mended%s\n", text_of(answer, "volume"), number_of(answer, "objects"),
			number_of(answer, "blobs"), number_of(answer, "wrong"), number_of(answer, "mended"),
			is_true(answer, "complete") ? "" : "; not everything could be looked at");
}

void print_verify(const json_t *answer)
{
	const json_t *found = json_object_get(answer, "found"), *x;
	char size[32];
	size_t i;

	json_array_foreach(found, i, x)
	{
		printf("%-8s  ", is_true(x, "mended") ? "mended" : text_of(x, "kind"));
		print_safe(text_of(x, "path"));
		printf("\n          ");
		print_safe(text_of(x, "reason"));
		if (text_of(x, "stays")[0] != '\0') {
			printf("\n          not mended: ");
			print_safe(text_of(x, "stays"));
		}
		putchar('\n');
	}
	if (is_true(answer, "more")) {
		printf("(there is more)\n");
	}
	human_bytes((double)number_of(answer, "bytes"), size, sizeof(size));
	printf("volume %s: %" PRId64 " files with %s compared, %" PRId64 " damaged, %" PRId64 " mended; not compared: %" PRId64
	       " whose data is not here, %" PRId64 " that are newer than S3 or in use, %" PRId64 " of whose objects nothing is "
	       "known\n", text_of(answer, "volume"), number_of(answer, "files"), size, number_of(answer, "damaged"),
			number_of(answer, "mended"), number_of(answer, "nothing_to_do"), number_of(answer, "stay"),
			number_of(answer, "untold"));
}
