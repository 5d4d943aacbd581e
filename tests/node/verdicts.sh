#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# 100,000 verdicts of the kernel against a reference evaluator (verdicts_test.c).
exec "${TULLE_BUILD:-build}/tests/node/verdicts_test"
