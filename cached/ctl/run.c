/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: run another program and read what it says.
 * Way: doctor, support-bundle -> here. Thread: the only one; waits for the program.
 * Owns: the child, until it has ended.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX_BYTES (4u << 20)

char *ctl_run(TALLOC_CTX *ctx, char *const argv[], int *status)
{
	char *out = talloc_array(ctx, char, OUTPUT_MAX_BYTES);
	int fds[2], wait_status = 0;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (out == NULL || pipe2(fds, O_CLOEXEC) != 0) {
		return NULL;
	}
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
				dup2(fds[1], STDOUT_FILENO) >= 0 &&
				dup2(null, STDERR_FILENO) >= 0) {
			execvp(argv[0], argv);
		}
		_exit(127);
	}
	close(fds[1]);
	while (pid > 0 && len < OUTPUT_MAX_BYTES - 1) {
		n = read(fds[0], out + len, OUTPUT_MAX_BYTES - 1 - len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			break;
		}
		len += (size_t)n;
	}
	close(fds[0]);
	out[len] = '\0';
	while (pid > 0 && waitpid(pid, &wait_status, 0) < 0 && errno == EINTR) {
	}
	*status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
	return pid > 0 && *status != 127 ? out : NULL;
}
