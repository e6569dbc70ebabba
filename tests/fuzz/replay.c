/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: run one fuzz target, without a fuzzer, on every file of the directories and files named.
 * Way: tests/run -> here -> LLVMFuzzerTestOneInput of the target linked in. Also tries the empty
 *   input and every prefix of short files, so that a truncated frame is always among them (with REPLAY_WHOLE in
 *   the environment: not).
 * Thread: one.
 * Owns: the buffer of one input at a time, exactly as long as the input (a sanitizer sees the end).
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX_LIMIT_BYTES 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static int run_bytes(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (copy == NULL) {
		return -ENOMEM;
	}
	if (size > 0) {
		memcpy(copy, bytes, size);
	}
	LLVMFuzzerTestOneInput(copy, size);
	inputs++;
	free(copy);
	return 0;
}

static int run_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	size_t limit = getenv("REPLAY_WHOLE") == NULL ? PREFIX_LIMIT_BYTES : 0;
	uint8_t *bytes = NULL;
	int ret = 0;

	if (file == NULL) {
		return -errno;
	}
	bytes = malloc(size > 0 ? size : 1);
	if (bytes == NULL) {
		ret = -ENOMEM;
		goto out;
	}
	if (fread(bytes, 1, size, file) != size) {
		ret = -EIO;
		goto out;
	}
	ret = run_bytes(bytes, size);
	for (size_t part = 0; ret == 0 && size <= limit && part < size; part++) {
		ret = run_bytes(bytes, part);
	}
out:
	free(bytes);
	fclose(file);
	return ret;
}

static int run_path(const char *path)
{
	char child[4096];
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int ret = 0;

	if (stat(path, &st) != 0) {
		return -errno;
	}
	if (!S_ISDIR(st.st_mode)) {
		return run_file(path, (size_t)st.st_size);
	}
	dir = opendir(path);
	if (dir == NULL) {
		return -errno;
	}
	while (ret == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.') {
			continue;
		}
		if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) >=
				(int)sizeof(child)) {
			ret = -ENAMETOOLONG;
			break;
		}
		ret = run_path(child);
	}
	closedir(dir);
	return ret;
}

int main(int argc, char **argv)
{
	int ret = run_bytes(NULL, 0);

	for (int i = 1; ret == 0 && i < argc; i++) {
		ret = run_path(argv[i]);
		if (ret != 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-ret));
		}
	}
	printf("%u inputs\n", inputs);
	return ret == 0 ? 0 : 1;
}
