#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The tc programs at the links of pods and of the node: put on, adopted, taken off (ifaces_test.c).
exec "${TULLE_BUILD:-build}/tests/node/ifaces_test"
