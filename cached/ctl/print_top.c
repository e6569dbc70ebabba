/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a sample of top as a page for people.
 * Way: top.c -> here -> standard output. Thread: the only one. Owns: nothing.
 * Holds: as print.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "top.h"

static double real_of(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static void print_rates(const char *label, const json_t *rates, const char *const *names,
		const char *const *shown)
{
	printf("%-10s", label);
	for (size_t i = 0; names[i] != NULL; i++) {
		printf("%s %.*f", shown[i], real_of(rates, names[i]) < 10 ? 1 : 0,
				real_of(rates, names[i]));
		printf("%s", names[i + 1] != NULL ? "   " : "\n");
	}
}

static void print_flow(const char *label, const json_t *rates, const char *in, const char *out,
		const char *in_word, const char *out_word)
{
	char a[32], b[32];

	human_bytes(real_of(rates, in), a, sizeof(a));
	human_bytes(real_of(rates, out), b, sizeof(b));
	printf("%-10s%s %s/s   %s %s/s\n", label, in_word, a, out_word, b);
}

static void print_here(const json_t *here)
{
	static const char *const whats[] = {"opens", "reads", "names", "lists"};

	printf("%-10s", "from here");
	for (size_t i = 0; i < sizeof(whats) / sizeof(whats[0]); i++) {
		const json_t *part = json_object_get(here, whats[i]);

		if (json_is_number(part)) {
			printf("%s %.1f%%   ", whats[i], 100 * json_number_value(part));
		} else {
			printf("%s -   ", whats[i]);
		}
	}
	putchar('\n');
}

static void print_means(const char *label, const json_t *family)
{
	const char *key;
	const json_t *row;
	bool any = false;
	void *it;

	printf("%-10s", label);
	for (it = json_object_iter((json_t *)family); it != NULL;
			it = json_object_iter_next((json_t *)family, it)) {
		key = json_object_iter_key(it);
		row = json_object_iter_value(it);
		if (json_is_number(json_object_get(row, "mean_s"))) {
			printf("%s %.1f ms   ", key, 1000 * real_of(row, "mean_s"));
			any = true;
		}
	}
	printf("%s\n", any ? "" : "-");
}

static void print_volumes(const json_t *volumes)
{
	const json_t *v;
	char used[32];
	size_t i;

	printf("\n%-16s %-10s %9s %10s %12s %9s\n", "VOLUME", "STATE", "PENDING", "OLDEST s",
			"CACHE", "SESSIONS");
	json_array_foreach(volumes, i, v)
	{
		human_bytes(real_of(json_object_get(v, "cache"), "used"), used, sizeof(used));
		printf("%-16s %-10s %9" PRId64 " %10" PRId64 " %12s %9" PRId64 "\n",
				text_of(v, "name"), text_of(v, "state"), number_of(v, "pending"),
				number_of(v, "oldest_pending_s"), used, number_of(v, "sessions"));
	}
}

static void print_clients(const json_t *sessions)
{
	const json_t *s;
	char in[32], out[32];
	size_t i;

	printf("\n%-16s %-24s %8s %-12s %10s %8s %11s %11s\n", "USER", "ADDRESS", "PROCESS",
			"VOLUME", "REQUESTS/s", "OPENS/s", "READ/s", "WRITTEN/s");
	json_array_foreach(sessions, i, s)
	{
		human_bytes(real_of(s, "read_bytes"), in, sizeof(in));
		human_bytes(real_of(s, "write_bytes"), out, sizeof(out));
		print_padded(text_of(s, "user"), 16);
		putchar(' ');
		print_padded(text_of(s, "address"), 24);
		printf(" %8" PRId64 " %-12s %10.1f %8.1f %11s %11s\n", number_of(s, "pid"),
				text_of(s, "volume"), real_of(s, "requests"), real_of(s, "opens"),
				in, out);
	}
}

void print_top(const json_t *sample)
{
	static const char *const daemon[] = {"messages", "hints", "recalls", "evictions", "uploads",
			"deletes", NULL};
	static const char *const store[] = {"s3_get", "s3_head", "s3_list", "s3_put", "s3_copy",
			"s3_delete", "s3_other", "s3_retries", "s3_errors", NULL};
	static const char *const store_shown[] = {
			"GET", "HEAD", "LIST", "PUT", "COPY", "DELETE", "other", "again", "errors"};
	const json_t *rates = json_object_get(sample, "rates");
	const json_t *times = json_object_get(sample, "times");

	printf("objectfs-cached %s, running for ", text_of(sample, "version"));
	print_duration(number_of(sample, "uptime_s"));
	printf("; %" PRId64 " connected; a second has, over the last %.1f s:\n",
			number_of(sample, "connected"), real_of(sample, "seconds"));
	print_rates("daemon", rates, daemon, daemon);
	print_rates("requests", rates, store, store_shown);
	print_flow("store", rates, "s3_bytes_in", "s3_bytes_out", "in", "out");
	print_flow("clients", rates, "client_read_bytes", "client_write_bytes", "read", "written");
	print_here(json_object_get(sample, "here"));
	print_means("steps", json_object_get(times, "step"));
	print_means("S3 takes", json_object_get(times, "s3_request"));
	print_volumes(json_object_get(sample, "volumes"));
	print_clients(json_object_get(sample, "sessions"));
}
