/* SPDX-License-Identifier: BSD-2-Clause */
/* Event loop: epoll, one-shot timers, signals. Single-threaded. Callbacks may add and remove any source, also their own. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <signal.h>
#include <stdint.h>

struct loop;
struct loop_io;
struct loop_timer;

typedef void (*loop_io_fn)(void *data, int fd, uint32_t epoll_events);
typedef void (*loop_fn)(void *data);
typedef void (*loop_signal_fn)(void *data, int signo);

struct loop *loop_new(void); /* NULL with errno */
void loop_free(struct loop *l);
/* Runs until loop_stop(); returns 0 or -errno of epoll. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* fd stays the caller's. NULL with errno. */
struct loop_io *loop_io_add(struct loop *l, int fd, uint32_t epoll_events, loop_io_fn fn, void *data);
int loop_io_set(struct loop_io *io, uint32_t epoll_events);
void loop_io_del(struct loop_io *io);

struct loop_timer *loop_timer_add(struct loop *l, uint64_t after_ms, loop_fn fn, void *data);
void loop_timer_del(struct loop_timer *t); /* before it fires; a fired timer is gone */

/* Blocks the signals in `set` for the thread and delivers them through a signalfd. 0 or -errno; once per loop. */
int loop_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *data);

uint64_t loop_now_ms(void); /* CLOCK_MONOTONIC */

#endif
