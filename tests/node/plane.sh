#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The kernel side of user/plane: apply, undo, adoption, pods, networks, flows, unload (plane_test.c).
exec "${TULLE_BUILD:-build}/tests/node/plane_test"
