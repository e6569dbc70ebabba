/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "127.0.0.1:9470" or "[::1]:9470" as a socket's address. Any thread. */
#ifndef OFS_BASE_ADDRESS_H
#define OFS_BASE_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Numeric address and port, 1 to 65535. 0 or -EINVAL. */
int address_parse(const char *text, struct sockaddr_storage *where);
bool address_is_loopback(const struct sockaddr_storage *where);

#endif
