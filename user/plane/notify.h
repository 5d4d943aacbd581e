/* SPDX-License-Identifier: BSD-2-Clause */
/* The sd_notify(3) protocol without libsystemd: datagrams to $NOTIFY_SOCKET. Does nothing where nobody listens. */
#ifndef PLANE_NOTIFY_H
#define PLANE_NOTIFY_H

#include <stdint.h>

/* Sends `state`, e.g. "READY=1\nSTATUS=..."; failures are ignored, as nothing could be done about them. */
void notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often WATCHDOG=1 must be sent (half of what systemd allows), in ms; 0: not wanted. */
uint64_t notify_watchdog_ms(void);

#endif
