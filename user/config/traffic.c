/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traffic policies: from what DestinationRules and Services say to what a cluster is given.
 */
#include "config/snapshot.h"

/* Istio's defaults: of Envoy, where Istio does not say. */
const struct u_traffic traffic_default = {
	.lb = LB_LEAST_REQUEST,
	.max_connections = UINT32_MAX,
};
