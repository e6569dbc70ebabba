/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Load for the benchmark: one process is one SMB client that repeats, in a directory of its own,
 * create 4 KiB - close - stat - rename - unlink until the time is up.
 *
 *   smbcycle smb://HOST:PORT/SHARE/DIR USER PASSWORD CLIENTS SECONDS     prints cycles_per_s=N
 */
#include <libsmbclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static const char *user, *password;

static void auth(SMBCCTX *c, const char *srv, const char *shr, char *wg, int wglen, char *un,
		int unlen, char *pw, int pwlen)
{
	(void)c;
	(void)srv;
	(void)shr;
	(void)wg;
	(void)wglen;
	snprintf(un, unlen, "%s", user);
	snprintf(pw, pwlen, "%s", password);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int client(const char *url, double seconds, double *rate)
{
	SMBCCTX *c = smbc_new_context();
	char dir[512], a[640], b[640], data[4096];
	double start = 0, end = 0;
	unsigned long n;
	struct stat st;

	memset(data, 'x', sizeof(data));
	smbc_setFunctionAuthDataWithContext(c, auth);
	smbc_setOptionUseKerberos(c, 0);
	if (smbc_init_context(c) == NULL) {
		return 1;
	}
	smbc_set_context(c);
	snprintf(dir, sizeof(dir), "%s/c%d", url, (int)getpid());
	if (smbc_mkdir(dir, 0777) != 0) {
		perror(dir);
		return 1;
	}
	start = now();
	for (n = 0; (end = now()) < start + seconds; n++) {
		int fd;

		snprintf(a, sizeof(a), "%s/a%lu", dir, n);
		snprintf(b, sizeof(b), "%s/b%lu", dir, n);
		fd = smbc_open(a, O_CREAT | O_EXCL | O_WRONLY, 0666);
		if (fd < 0 || smbc_write(fd, data, sizeof(data)) != sizeof(data) ||
				smbc_close(fd) != 0 || smbc_stat(a, &st) != 0 ||
				smbc_rename(a, b) != 0 || smbc_unlink(b) != 0) {
			perror(a);
			return 1;
		}
	}
	smbc_rmdir(dir);
	*rate = n / (end - start);
	return 0;
}

int main(int argc, char **argv)
{
	int clients, i, status, failed = 0;
	double *rates, sum = 0;

	if (argc != 6) {
		fprintf(stderr, "usage: smbcycle URL USER PASSWORD CLIENTS SECONDS\n");
		return 2;
	}
	user = argv[2];
	password = argv[3];
	clients = atoi(argv[4]);
	rates = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < clients; i++) {
		if (fork() == 0) {
			_exit(client(argv[1], atof(argv[5]), &rates[i]));
		}
	}
	while (wait(&status) > 0) {
		failed |= status;
	}
	for (i = 0; i < clients; i++) {
		sum += rates[i];
	}
	printf("cycles_per_s=%.1f\n", sum);
	return failed ? 1 : 0;
}
