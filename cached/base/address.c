/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a person writes as address and port, as a socket's address.
 * Way: the check of the configuration, and http/. Thread: any. Owns: nothing.
 * Holds: names are not resolved: a daemon that starts must not wait for DNS.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* 0: none. */
static uint16_t port_parse(const char *text)
{
	char *end;
	unsigned long port;

	if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 5) {
		return 0;
	}
	port = strtoul(text, &end, 10);
	return *end == '\0' && port <= 65535 ? (uint16_t)port : 0;
}

int address_parse(const char *text, struct sockaddr_storage *where)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)where;
	struct sockaddr_in *v4 = (struct sockaddr_in *)where;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t len = colon != NULL ? (size_t)(colon - text) : 0;
	uint16_t port = colon != NULL ? port_parse(colon + 1) : 0;
	bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';

	memset(where, 0, sizeof(*where));
	if (port == 0 || len >= sizeof(host)) {
		return -EINVAL;
	}
	memcpy(host, text + brackets, len - 2 * brackets);
	host[len - 2 * brackets] = '\0';
	if (brackets && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return 0;
	}
	if (!brackets && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return 0;
	}
	return -EINVAL;
}

bool address_is_loopback(const struct sockaddr_storage *where)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)where;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)where;

	if (where->ss_family == AF_INET6) {
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	}
	return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
}
