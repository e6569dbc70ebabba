/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the metrics page, in Prometheus' text form (Prometheus: "Exposition formats", version 0.0.4).
 * Way: http.c -> here. Thread: any. Owns: the text, until it is returned.
 * Holds: (1) every row of the tables of counters and times is on the page, under its own name with a
 * unit: no list is kept here. (2) All samples of a family stand together, behind its HELP and TYPE.
 * (3) A value that is not known is left out, never written as 0.
 *
 *	counters  objectfs_<name>_total      gauges  objectfs_<name>
 *	times     objectfs_<family>_seconds{<label>="<value>"}, histograms
 *	requests  objectfs_s3_requests_ended_total{type,result}
 *	volumes   objectfs_volume_...{volume}
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "../base/stats.h"
#include "../objstore/objstore.h"
#include "shared/version.h"

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counters_write(FILE *f)
{
	char name[128];

	for (unsigned i = 0; i < stats_row_count; i++) {
		const struct stats_row *r = &stats_rows[i];
		bool counter = r->kind == STATS_COUNTER;

		snprintf(name, sizeof(name), "objectfs_%s%s", r->name, counter ? "_total" : "");
		head(f, name, counter ? "counter" : "gauge", r->help);
		fprintf(f, "%s %" PRId64 "\n", name,
				atomic_load_explicit(r->cell, memory_order_relaxed));
	}
}

static void times_write(FILE *f)
{
	char name[128] = "";

	for (unsigned i = 0; i < times_row_count; i++) {
		const struct times_row *r = &times_rows[i];
		int64_t sum_ns = atomic_load_explicit(&r->cell->sum_ns, memory_order_relaxed);
		int64_t count = 0;

		if (i == 0 || strcmp(r->family, times_rows[i - 1].family) != 0) {
			snprintf(name, sizeof(name), "objectfs_%s_seconds", r->family);
			head(f, name, "histogram", r->family_help);
		}
		for (unsigned b = 0; b < TIMES_BUCKETS; b++) {
			char bound[32] = "+Inf";

			count += atomic_load_explicit(&r->cell->bucket[b], memory_order_relaxed);
			if (b < TIMES_BUCKETS - 1) {
				snprintf(bound, sizeof(bound), "%g", (double)times_bound_ns[b] / 1e9);
			}
			fprintf(f, "%s_bucket{%s=\"%s\",le=\"%s\"} %" PRId64 "\n", name, r->label,
					r->value, bound, count);
		}
		fprintf(f, "%s_sum{%s=\"%s\"} %.9f\n", name, r->label, r->value,
				(double)sum_ns / 1e9);
		fprintf(f, "%s_count{%s=\"%s\"} %" PRId64 "\n", name, r->label, r->value, count);
	}
}

static void requests_write(FILE *f)
{
	static const char name[] = "objectfs_s3_requests_ended_total";

	head(f, name, "counter", "requests to the store by type and result, retries not counted");
	for (unsigned op = 0; op < OBJ_OP_MAX; op++) {
		for (unsigned s = 0; s < OBJ_STATUS_MAX; s++) {
			int64_t n = objstore_ended(op, s);

			if (n > 0 || s == OBJ_OK) {
				fprintf(f, "%s{type=\"%s\",result=\"%s\"} %" PRId64 "\n", name,
						objstore_op_name(op), objstore_status_name(s), n);
			}
		}
	}
}

/* Prometheus' text form: backslash, quote and newline of a label's value are escaped. */
static void label_write(FILE *f, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\\' || *text == '"') {
			fputc('\\', f);
		}
		fputs(*text == '\n' ? "\\n" : (char[]){*text, '\0'}, f);
	}
}

static void volumes_write(FILE *f, const json_t *volumes)
{
	static const struct {
		const char *key, *name, *help;
	} rows[] = {
		{"pending", "pending", "names and files not yet in agreement with S3"},
		{"oldest_pending_s", "backlog_age_seconds",
				"how long the oldest change has been waiting for S3; 0: none"},
		{"sessions", "sessions", "connections of the module"},
		{"rows", "names", "names known to the index"},
		{"log_queued", "log_queued", "metadata changes that wait for the node's log"},
		{"used_bytes", "used_bytes", "bytes of all files as far as they are known to S3"},
		{"capacity_bytes", "capacity_bytes", "size of the share that clients are told"},
		{"clock_offset_s", "clock_offset_seconds",
				"the store's clock minus this machine's, by the store's last answer"},
		{"login_expires", "credentials_expire_timestamp_seconds",
				"until when the credentials say that they are valid; 0: they do not say"},
	};
	const json_t *v;
	size_t n;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char name[128];

		snprintf(name, sizeof(name), "objectfs_volume_%s", rows[i].name);
		head(f, name, "gauge", rows[i].help);
		json_array_foreach(volumes, n, v)
		{
			fprintf(f, "%s{volume=\"", name);
			label_write(f, json_string_value(json_object_get(v, "name")));
			fprintf(f, "\"} %.17g\n", json_number_value(json_object_get(v, rows[i].key)));
		}
	}
	head(f, "objectfs_volume_ready", "gauge", "1: S3 is reached and the bucket is ours");
	json_array_foreach(volumes, n, v)
	{
		const char *state = json_string_value(json_object_get(v, "state"));

		fprintf(f, "objectfs_volume_ready{volume=\"");
		label_write(f, json_string_value(json_object_get(v, "name")));
		fprintf(f, "\"} %d\n", state != NULL && strcmp(state, "ready") == 0);
	}
}

/* proc(5): statm, the second field: resident pages; status: Threads. */
static void process_write(FILE *f)
{
	long pages = -1, threads = -1;
	FILE *proc = fopen("/proc/self/statm", "re");
	char line[256];

	if (proc != NULL) {
		if (fscanf(proc, "%*d %ld", &pages) != 1) {
			pages = -1;
		}
		fclose(proc);
	}
	proc = fopen("/proc/self/status", "re");
	while (proc != NULL && fgets(line, sizeof(line), proc) != NULL) {
		if (sscanf(line, "Threads: %ld", &threads) == 1) {
			break;
		}
	}
	if (proc != NULL) {
		fclose(proc);
	}
	if (pages >= 0) {
		head(f, "objectfs_memory_bytes", "gauge", "memory of the daemon that is in RAM");
		fprintf(f, "objectfs_memory_bytes %lld\n", (long long)pages * sysconf(_SC_PAGESIZE));
	}
	if (threads >= 0) {
		head(f, "objectfs_threads", "gauge", "threads of the daemon");
		fprintf(f, "objectfs_threads %ld\n", threads);
	}
}

char *metrics_text(const json_t *status, size_t *len)
{
	const json_t *uptime = json_object_get(status, "uptime_s");
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	bool failed;

	if (f == NULL) {
		return NULL;
	}
	head(f, "objectfs_info", "gauge", "version of the daemon");
	fprintf(f, "objectfs_info{version=\"%s\"} 1\n", OFS_VERSION);
	head(f, "objectfs_core_answers", "gauge", "0: the core has not answered, its figures are missing");
	fprintf(f, "objectfs_core_answers %d\n", status != NULL);
	if (uptime != NULL) {
		head(f, "objectfs_uptime_seconds", "gauge", "time since the daemon's start");
		fprintf(f, "objectfs_uptime_seconds %.3f\n", json_number_value(uptime));
	}
	counters_write(f);
	requests_write(f);
	times_write(f);
	if (status != NULL) {
		volumes_write(f, json_object_get(status, "volumes"));
	}
	process_write(f);
	failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
