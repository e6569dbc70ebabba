/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: take secrets and names of files out of texts: redact.h.
 * Way: bundle.c -> here. Thread: the only one. Owns: words, secrets, the salt, which is never written
 * anywhere: nobody can try names against what is in a bundle.
 * Holds: 1. secrets go first, and whatever else is wanted;
 *        2. a word of which any part is not known goes as a whole.
 */
#include "redact.h"

#include <ctype.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_LEAST 4u /* printable bytes in a row are text in a program's file */
#define WORD_MOST 40u
#define ERRNO_MOST 134

struct redact {
	bool names, sorted;
	bool failed; /* for want of memory: nothing is given out any more */
	char **words; /* of letters alone */
	size_t count, cap;
	char **secrets, **below;
	unsigned secret_count, below_count;
	uint8_t salt[16];
};

struct redact *redact_new(TALLOC_CTX *ctx, bool names)
{
	struct redact *r = talloc_zero(ctx, struct redact);

	if (r == NULL || RAND_bytes(r->salt, sizeof(r->salt)) != 1) {
		talloc_free(r);
		return NULL;
	}
	r->names = names;
	for (int err = 1; err < ERRNO_MOST; err++) {
		redact_learn(r, strerror(err));
	}
	redact_learn(r, "secret");
	return r;
}

/* ---- words ---- */

static void word_learn(struct redact *r, const char *word, size_t len)
{
	if (len < 2 || len > WORD_MOST) {
		return;
	}
	if (r->count == r->cap) {
		size_t cap = r->cap != 0 ? r->cap * 2 : 4096;
		char **more = talloc_realloc(r, r->words, char *, cap);

		if (more == NULL) {
			return; /* it will not stay: the safe side */
		}
		r->words = more;
		r->cap = cap;
	}
	r->words[r->count] = talloc_strndup(r, word, len);
	r->count += r->words[r->count] != NULL ? 1 : 0;
	r->sorted = false;
}

static void bytes_learn(struct redact *r, const char *p, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t from = i;

		while (i < len && isalpha((unsigned char)p[i])) {
			i++;
		}
		word_learn(r, p + from, i - from);
		i += i == from ? 1 : 0;
	}
}

void redact_learn(struct redact *r, const char *text)
{
	bytes_learn(r, text, strlen(text));
}

void redact_learn_file(struct redact *r, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const char *p;

	if (fd < 0) {
		return;
	}
	p = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0
			    ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
			    : MAP_FAILED;
	close(fd);
	if (p == MAP_FAILED) {
		return;
	}
	for (size_t i = 0, from = 0, len = (size_t)st.st_size; i <= len; i++) {
		if (i == len || (unsigned char)p[i] < 0x20 || (unsigned char)p[i] > 0x7e) {
			if (i - from >= RUN_LEAST) {
				bytes_learn(r, p + from, i - from);
			}
			from = i + 1;
		}
	}
	munmap((void *)p, (size_t)st.st_size);
}

static int word_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool word_is_known(struct redact *r, const char *word)
{
	if (!r->sorted) {
		qsort(r->words, r->count, sizeof(r->words[0]), word_compare);
		r->sorted = true;
	}
	return r->count > 0 &&
	       bsearch(&word, r->words, r->count, sizeof(r->words[0]), word_compare) != NULL;
}

/* ---- what goes ---- */

static void list_add(struct redact *r, char ***list, unsigned *count, const char *text)
{
	char **more = talloc_realloc(r, *list, char *, *count + 1);

	if (more != NULL) {
		*list = more;
		more[*count] = talloc_strdup(r, text);
	}
	if (more == NULL || more[*count] == NULL) {
		r->failed = true;
		return;
	}
	*count += 1;
}

void redact_below(struct redact *r, const char *directory)
{
	list_add(r, &r->below, &r->below_count, directory);
}

void redact_secret(void *redact, const char *secret)
{
	struct redact *r = redact;

	list_add(r, &r->secrets, &r->secret_count, secret);
}

char *redact_secrets(TALLOC_CTX *ctx, struct redact *r, const char *text)
{
	char *out = r->failed ? NULL : talloc_strdup(ctx, text);

	for (unsigned i = 0; i < r->secret_count && out != NULL; i++) {
		char *at, *rest = out, *clean = talloc_strdup(ctx, "");

		while (clean != NULL && (at = strstr(rest, r->secrets[i])) != NULL) {
			clean = talloc_asprintf_append_buffer(
					clean, "%.*s(secret)", (int)(at - rest), rest);
			rest = at + strlen(r->secrets[i]);
		}
		clean = clean != NULL ? talloc_strdup_append_buffer(clean, rest) : NULL;
		talloc_free(out);
		out = clean;
	}
	return out;
}

static void put_hash(const struct redact *r, FILE *f, const char *text, size_t len)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 ||
			EVP_DigestUpdate(md, r->salt, sizeof(r->salt)) != 1 ||
			EVP_DigestUpdate(md, text, len) != 1 ||
			EVP_DigestFinal_ex(md, sum, NULL) != 1) {
		memset(sum, 0, sizeof(sum));
	}
	EVP_MD_CTX_free(md);
	fprintf(f, "~%02x%02x%02x%02x", sum[0], sum[1], sum[2], sum[3]);
}

/* Each component by itself, so that one sees what is in the same directory. */
static void put_path(const struct redact *r, FILE *f, const char *path, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i + n < len && path[i + n] != '/') {
			n++;
		}
		if (n == 1 && path[i] == '.') {
			putc('.', f);
		} else if (n > 0) {
			put_hash(r, f, path + i, n);
		}
		i += n;
		if (i < len) {
			putc('/', f);
			i++;
		}
	}
}

/* Numbers, single letters (of units, of a time of day), and words that are known. */
static bool run_is_known(struct redact *r, const char *run, size_t len)
{
	char word[WORD_MOST + 1];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (isdigit((unsigned char)run[i])) {
			continue;
		}
		if (n == WORD_MOST || !isalpha((unsigned char)run[i])) {
			return false;
		}
		word[n++] = run[i];
	}
	word[n] = '\0';
	return n < 2 || word_is_known(r, word);
}

static bool word_stays(struct redact *r, const char *word, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i + n < len && (isalnum((unsigned char)word[i + n]) ||
						      (unsigned char)word[i + n] >= 0x80)) {
			n++;
		}
		if (n > 0 && !run_is_known(r, word + i, n)) {
			return false;
		}
		i += n > 0 ? n : 1;
	}
	return true;
}

static void put_word(struct redact *r, FILE *f, const char *word, size_t len)
{
	size_t before = 0, after = len;

	while (before < after && strchr("\"'([{<", word[before]) != NULL) {
		before++;
	}
	while (after > before && strchr("\"')]}>,.;:!?", word[after - 1]) != NULL) {
		after--;
	}
	fprintf(f, "%.*s", (int)before, word);
	for (unsigned i = 0; i < r->below_count; i++) {
		size_t n = strlen(r->below[i]);

		if (after - before > n && strncmp(word + before, r->below[i], n) == 0 &&
				word[before + n] == '/') {
			fprintf(f, "%s/", r->below[i]);
			put_path(r, f, word + before + n + 1, after - before - n - 1);
			before = after;
		}
	}
	if (before < after && word_stays(r, word + before, after - before)) {
		fprintf(f, "%.*s", (int)(after - before), word + before);
	} else if (before < after) {
		put_hash(r, f, word + before, after - before);
	}
	fprintf(f, "%.*s", (int)(len - after), word + after);
}

char *redact_text(TALLOC_CTX *ctx, struct redact *r, const char *text)
{
	char *clean = redact_secrets(ctx, r, text), *bytes = NULL, *out;
	size_t len = 0;
	FILE *f;

	if (clean == NULL || r->names) {
		return clean;
	}
	f = open_memstream(&bytes, &len);
	if (f == NULL) {
		return NULL;
	}
	for (const char *p = clean; *p != '\0';) {
		size_t blank = strspn(p, " \t\n"), n = strcspn(p + blank, " \t\n");

		fprintf(f, "%.*s", (int)blank, p);
		put_word(r, f, p + blank, n);
		p += blank + n;
	}
	out = fclose(f) == 0 ? talloc_strdup(ctx, bytes) : NULL;
	free(bytes);
	talloc_free(clean);
	return out;
}

static char *redact_name(TALLOC_CTX *ctx, struct redact *r, const char *name)
{
	char *bytes = NULL, *out;
	size_t len = 0;
	FILE *f;

	if (r->names) {
		return redact_secrets(ctx, r, name);
	}
	f = open_memstream(&bytes, &len);
	if (f == NULL) {
		return NULL;
	}
	put_path(r, f, name, strlen(name));
	out = fclose(f) == 0 ? talloc_strdup(ctx, bytes) : NULL;
	free(bytes);
	return out;
}

static bool key_is_name(const char *key)
{
	static const char *const keys[] = {"path", "copy", "from", "to", "blocked_by", "user", "address"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i], key) == 0) {
			return true;
		}
	}
	return false;
}

static json_t *json_of(struct redact *r, const char *key, const json_t *value)
{
	json_t *out;
	char *text;
	size_t i;
	const json_t *item;

	switch (json_typeof(value)) {
	case JSON_STRING:
		text = (key_is_name(key) ? redact_name : redact_text)(
				r, r, json_string_value(value));
		out = text != NULL ? json_string(text) : json_null();
		talloc_free(text);
		return out;
	case JSON_ARRAY:
		out = json_array();
		json_array_foreach(value, i, item)
		{
			json_array_append_new(out, json_of(r, key, item));
		}
		return out;
	case JSON_OBJECT:
		out = json_object();
		for (void *it = json_object_iter((json_t *)value); it != NULL;
				it = json_object_iter_next((json_t *)value, it)) {
			json_object_set_new(out, json_object_iter_key(it),
					json_of(r, json_object_iter_key(it),
							json_object_iter_value(it)));
		}
		return out;
	default:
		return json_deep_copy(value);
	}
}

json_t *redact_json(struct redact *r, const json_t *value)
{
	return json_of(r, "", value);
}
