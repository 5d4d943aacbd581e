#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The kernel side of what user/plane knows of endpoints (endpoints_test.c).
exec "${TULLE_BUILD:-build}/tests/node/endpoints_test"
