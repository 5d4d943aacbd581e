/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of kinds, and its lookups. A kind that is not in it is refused with the nearest name as a hint, so
 * that nothing with a meaning for traffic passes unseen. Kinds without one are skipped in any version.
 */
#include "config/kind_local.h"

#define NR(array) (sizeof(array) / sizeof(*(array)))

#define ISTIO_NET "networking.istio.io"
#define ISTIO_VERSIONS "v1 v1beta1 v1alpha3"
#define GATEWAY_API "gateway.networking.k8s.io"
#define GATEWAY_X "gateway.networking.x-k8s.io"
#define SECURITY "security.istio.io"

#define NEEDS_L7 "needs a proxy that reads the bytes; not enforced yet"
#define NOT_POLICY "policy is not enforced yet, and a policy that is not enforced would fail open"

#define DECODED(g, k, v, plural_, shorts_, id_, fn)                                                   \
	{                                                                                             \
		.group = (g), .kind = (k), .versions = (v), .plural = (plural_), .shorts = (shorts_), \
		.class = KIND_DECODED, .id = (id_), .decode = (fn)                                    \
	}
#define CLUSTER(g, k, v, plural_, shorts_, id_, fn)                                                   \
	{                                                                                             \
		.group = (g), .kind = (k), .versions = (v), .plural = (plural_), .shorts = (shorts_), \
		.class = KIND_DECODED, .id = (id_), .decode = (fn), .cluster_scoped = true            \
	}
#define REFUSED(g, k, v, plural_, why)                                                                                \
	{                                                                                                             \
		.group = (g), .kind = (k), .versions = (v), .plural = (plural_), .shorts = "", .class = KIND_REFUSED, \
		.note = (why)                                                                                         \
	}
#define SKIPPED(g, k, plural_)                                                                                       \
	{                                                                                                            \
		.group = (g), .kind = (k), .versions = "*", .plural = (plural_), .shorts = "", .class = KIND_SKIPPED \
	}
/* Every kind of a group. */
#define SKIPPED_GROUP(g)                                                                                      \
	{                                                                                                     \
		.group = (g), .kind = "*", .versions = "*", .plural = "", .shorts = "", .class = KIND_SKIPPED \
	}

/* clang-format off */
const struct kind_entry kind_entries[] = {
	DECODED("", "Service", "v1", "services", "svc", KIND_SERVICE, decode_service),
	DECODED("", "Endpoints", "v1", "endpoints", "ep", KIND_SLICE, decode_endpoints),
	DECODED("discovery.k8s.io", "EndpointSlice", "v1", "endpointslices", "", KIND_SLICE, decode_slice),
	DECODED("", "Pod", "v1", "pods", "po", KIND_POD, decode_pod),
	CLUSTER("", "Namespace", "v1", "namespaces", "ns", KIND_NAMESPACE, decode_namespace),
	CLUSTER("", "Node", "v1", "nodes", "no", KIND_NODE, decode_node),
	DECODED(ISTIO_NET, "VirtualService", ISTIO_VERSIONS, "virtualservices", "vs", KIND_VIRTUAL_SERVICE, decode_virtual_service),
	DECODED(ISTIO_NET, "DestinationRule", ISTIO_VERSIONS, "destinationrules", "dr", KIND_DESTINATION_RULE, decode_destination_rule),
	DECODED(ISTIO_NET, "ServiceEntry", ISTIO_VERSIONS, "serviceentries", "se", KIND_SERVICE_ENTRY, decode_service_entry),
	DECODED(ISTIO_NET, "WorkloadEntry", ISTIO_VERSIONS, "workloadentries", "we", KIND_WORKLOAD_ENTRY, decode_workload_entry),
	DECODED(ISTIO_NET, "WorkloadGroup", ISTIO_VERSIONS, "workloadgroups", "wg", KIND_WORKLOAD_GROUP, decode_workload_group),
	DECODED(ISTIO_NET, "Gateway", ISTIO_VERSIONS, "gateways", "gw", KIND_ISTIO_GATEWAY, decode_istio_gateway),
	DECODED(ISTIO_NET, "Sidecar", ISTIO_VERSIONS, "sidecars", "", KIND_SIDECAR, decode_sidecar),
	CLUSTER(GATEWAY_API, "GatewayClass", "v1 v1beta1", "gatewayclasses", "gc", KIND_GATEWAY_CLASS, decode_gateway_class),
	DECODED(GATEWAY_API, "Gateway", "v1 v1beta1", "gateways", "gtw", KIND_GATEWAY, decode_gateway),
	DECODED(GATEWAY_API, "TCPRoute", "v1 v1alpha2", "tcproutes", "", KIND_ROUTE, decode_tcp_route),
	DECODED(GATEWAY_API, "UDPRoute", "v1 v1alpha2", "udproutes", "", KIND_ROUTE, decode_udp_route),
	DECODED(GATEWAY_API, "HTTPRoute", "v1 v1beta1", "httproutes", "", KIND_ROUTE, decode_http_route),
	DECODED(GATEWAY_API, "ReferenceGrant", "v1 v1beta1", "referencegrants", "refgrant", KIND_REFERENCE_GRANT, decode_reference_grant),
	DECODED(SECURITY, "AuthorizationPolicy", "v1 v1beta1", "authorizationpolicies", "ap", KIND_AUTHORIZATION_POLICY, decode_authorization_policy),
	DECODED(SECURITY, "PeerAuthentication", "v1 v1beta1", "peerauthentications", "pa", KIND_PEER_AUTHENTICATION, decode_peer_authentication),

	REFUSED(ISTIO_NET, "EnvoyFilter", "v1alpha3", "envoyfilters", "there is no Envoy to be patched"),
	REFUSED(ISTIO_NET, "ProxyConfig", "v1beta1", "proxyconfigs", "there is no Envoy to be configured"),
	REFUSED(SECURITY, "RequestAuthentication", "v1 v1beta1", "requestauthentications", NOT_POLICY),
	REFUSED("telemetry.istio.io", "Telemetry", "v1 v1alpha1", "telemetries", "configured access logs, metrics and traces are not enforced yet"),
	REFUSED("extensions.istio.io", "WasmPlugin", "v1alpha1", "wasmplugins", "there is no Envoy to be extended"),
	REFUSED("extensions.istio.io", "TrafficExtension", "v1alpha1", "trafficextensions", "there is no Envoy to be extended"),
	REFUSED(GATEWAY_API, "ListenerSet", "v1", "listenersets", "more listeners for a Gateway are not enforced yet"),
	REFUSED(GATEWAY_API, "GRPCRoute", "v1 v1alpha2", "grpcroutes", NEEDS_L7),
	REFUSED(GATEWAY_API, "TLSRoute", "v1 v1alpha3 v1alpha2", "tlsroutes", NEEDS_L7),
	REFUSED(GATEWAY_API, "BackendTLSPolicy", "v1 v1alpha3", "backendtlspolicies", "TLS to backends is not enforced yet"),
	REFUSED(GATEWAY_API, "BackendLBPolicy", "v1alpha2", "backendlbpolicies", NEEDS_L7),
	REFUSED(GATEWAY_X, "*", "*", "", "experimental kinds of the Gateway API are not enforced yet"),
	REFUSED("inference.networking.k8s.io", "*", "*", "", NEEDS_L7),
	REFUSED("inference.networking.x-k8s.io", "*", "*", "", NEEDS_L7),
	REFUSED("networking.k8s.io", "Ingress", "v1", "ingresses", NEEDS_L7),
	REFUSED("networking.k8s.io", "IngressClass", "v1", "ingressclasses", NEEDS_L7),
	REFUSED("networking.k8s.io", "NetworkPolicy", "v1", "networkpolicies", NOT_POLICY),
	REFUSED("policy.networking.k8s.io", "*", "*", "", NOT_POLICY),
	REFUSED("multicluster.x-k8s.io", "*", "*", "", "several clusters are not enforced yet"),

	SKIPPED("", "Binding", "bindings"),
	SKIPPED("", "ComponentStatus", "componentstatuses"),
	SKIPPED("", "ConfigMap", "configmaps"),
	SKIPPED("", "Event", "events"),
	SKIPPED("", "LimitRange", "limitranges"),
	SKIPPED("", "PersistentVolume", "persistentvolumes"),
	SKIPPED("", "PersistentVolumeClaim", "persistentvolumeclaims"),
	SKIPPED("", "PodTemplate", "podtemplates"),
	SKIPPED("", "ReplicationController", "replicationcontrollers"),
	SKIPPED("", "ResourceQuota", "resourcequotas"),
	SKIPPED("", "Secret", "secrets"),
	SKIPPED("", "ServiceAccount", "serviceaccounts"),
	SKIPPED("apps", "ControllerRevision", "controllerrevisions"),
	SKIPPED("apps", "DaemonSet", "daemonsets"),
	SKIPPED("apps", "Deployment", "deployments"),
	SKIPPED("apps", "ReplicaSet", "replicasets"),
	SKIPPED("apps", "StatefulSet", "statefulsets"),
	SKIPPED("extensions", "DaemonSet", "daemonsets"),
	SKIPPED("extensions", "Deployment", "deployments"),
	SKIPPED("extensions", "ReplicaSet", "replicasets"),
	SKIPPED("batch", "CronJob", "cronjobs"),
	SKIPPED("batch", "Job", "jobs"),
	SKIPPED("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
	SKIPPED("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
	SKIPPED("policy", "PodSecurityPolicy", "podsecuritypolicies"),
	SKIPPED("rbac.authorization.k8s.io", "ClusterRole", "clusterroles"),
	SKIPPED("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings"),
	SKIPPED("rbac.authorization.k8s.io", "Role", "roles"),
	SKIPPED("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
	SKIPPED("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
	SKIPPED("apiregistration.k8s.io", "APIService", "apiservices"),
	SKIPPED("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
	SKIPPED("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
	SKIPPED("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
	SKIPPED("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
	SKIPPED("admissionregistration.k8s.io", "MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
	SKIPPED("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
	SKIPPED("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests"),
	SKIPPED("coordination.k8s.io", "Lease", "leases"),
	SKIPPED("events.k8s.io", "Event", "events"),
	SKIPPED("node.k8s.io", "RuntimeClass", "runtimeclasses"),
	SKIPPED("scheduling.k8s.io", "PriorityClass", "priorityclasses"),
	/* What the allocator of cluster IPs writes down; the addresses stand in the Services. */
	SKIPPED("networking.k8s.io", "IPAddress", "ipaddresses"),
	SKIPPED("networking.k8s.io", "ServiceCIDR", "servicecidrs"),
	SKIPPED_GROUP("autoscaling.k8s.io"),
	SKIPPED_GROUP("storage.k8s.io"),
	SKIPPED_GROUP("snapshot.storage.k8s.io"),
	SKIPPED_GROUP("resource.k8s.io"),
	SKIPPED_GROUP("flowcontrol.apiserver.k8s.io"),
	SKIPPED_GROUP("metrics.k8s.io"),
	SKIPPED_GROUP("kustomize.config.k8s.io"),
	SKIPPED_GROUP("install.istio.io"),
	SKIPPED_GROUP("cert-manager.io"),
	SKIPPED_GROUP("acme.cert-manager.io"),
	SKIPPED_GROUP("certmanager.k8s.io"),
	SKIPPED_GROUP("monitoring.coreos.com"),
};
/* clang-format on */
const unsigned int kind_entry_nr = NR(kind_entries);

/* A word of a list with spaces between. */
static bool has_word(const char *list, struct str word)
{
	while (*list) {
		size_t len = strcspn(list, " ");

		if (str_eq((struct str){ list, (uint32_t)len }, word))
			return true;
		list += len;
		while (*list == ' ')
			list++;
	}
	return false;
}

static bool is_any(const char *text)
{
	return !strcmp(text, "*");
}

/* Where else a kind of this name is, else the nearest name. */
static struct str kind_hint(struct arena *arena, struct str group, struct str kind)
{
	struct str names[NR(kind_entries)];
	int nearest;

	for (size_t i = 0; i < NR(kind_entries); i++) {
		const struct kind_entry *e = &kind_entries[i];
		struct str version = str_of(e->versions);
		int space = str_find(version, ' ');

		names[i] = str_of(e->kind);
		if (!str_is(kind, e->kind))
			continue;
		if (space >= 0)
			version = str_sub(version, 0, (uint32_t)space);
		if (is_any(e->versions))
			version = STR("v1");
		return arena_printf(arena, "apiVersion of kind %s is %s%s%.*s", e->kind, e->group, *e->group ? "/" : "",
				    STR_ARG(version));
	}
	nearest = kind.len ? str_nearest(kind, names, NR(names)) : -1;
	if (nearest >= 0 && !is_any(kind_entries[nearest].kind))
		return arena_printf(arena, "did you mean %s?", kind_entries[nearest].kind);
	return (struct str){ 0 };
}

static struct str group_of(struct str api_version)
{
	int slash = str_find(api_version, '/');

	return slash < 0 ? STR("") : str_sub(api_version, 0, (uint32_t)slash);
}

const struct kind_entry *kind_of_group(struct str api_version, struct str kind)
{
	struct str group = group_of(api_version);

	for (size_t i = 0; i < NR(kind_entries); i++) {
		const struct kind_entry *e = &kind_entries[i];

		if (str_is(group, e->group) && (is_any(e->kind) || str_is(kind, e->kind)))
			return e;
	}
	return NULL;
}

const struct kind_entry *kind_find(struct arena *arena, struct str api_version, struct str kind, struct str *ret_hint)
{
	const struct kind_entry *e = kind_of_group(api_version, kind);
	struct str group = group_of(api_version), version = api_version;

	if (!e) {
		*ret_hint = kind_hint(arena, group, kind);
		return NULL;
	}
	if (str_find(api_version, '/') >= 0)
		version = str_sub(api_version, group.len + 1, api_version.len);
	if (version.len && kind.len && (is_any(e->versions) || has_word(e->versions, version)))
		return e;
	*ret_hint = is_any(e->versions) ? (struct str){ 0 }
					: arena_printf(arena, "served versions of %s: %s", e->kind, e->versions);
	return NULL;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_ignoring_case(struct str a, const char *z)
{
	if (a.len != strlen(z))
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if (lower(a.p[i]) != lower(z[i]))
			return false;
	return true;
}

const struct kind_entry *kind_by_resource(struct str text)
{
	int dot = str_find(text, '.');
	struct str name = dot < 0 ? text : str_sub(text, 0, (uint32_t)dot);
	struct str group = dot < 0 ? STR("") : str_sub(text, (uint32_t)dot + 1, text.len);

	for (size_t i = 0; i < NR(kind_entries); i++) {
		const struct kind_entry *e = &kind_entries[i];
		int next = str_find(group, '.');

		if (is_any(e->kind))
			continue;
		if (!same_ignoring_case(name, e->plural) && !same_ignoring_case(name, e->kind) &&
		    !has_word(e->shorts, name))
			continue;
		if (dot < 0 || same_ignoring_case(group, e->group))
			return e;
		/* "virtualservices.v1.networking.istio.io" */
		if (next >= 0 && has_word(e->versions, str_sub(group, 0, (uint32_t)next)) &&
		    same_ignoring_case(str_sub(group, (uint32_t)next + 1, group.len), e->group))
			return e;
	}
	return NULL;
}

const char *kind_text(enum kind k)
{
	static const char *const names[KIND_NR] = {
		[KIND_SERVICE] = "Service",
		[KIND_SLICE] = "EndpointSlice",
		[KIND_POD] = "Pod",
		[KIND_NAMESPACE] = "Namespace",
		[KIND_NODE] = "Node",
		[KIND_VIRTUAL_SERVICE] = "VirtualService",
		[KIND_DESTINATION_RULE] = "DestinationRule",
		[KIND_SERVICE_ENTRY] = "ServiceEntry",
		[KIND_WORKLOAD_ENTRY] = "WorkloadEntry",
		[KIND_WORKLOAD_GROUP] = "WorkloadGroup",
		[KIND_ISTIO_GATEWAY] = "Gateway",
		[KIND_SIDECAR] = "Sidecar",
		[KIND_GATEWAY_CLASS] = "GatewayClass",
		[KIND_GATEWAY] = "Gateway",
		[KIND_ROUTE] = "Route",
		[KIND_REFERENCE_GRANT] = "ReferenceGrant",
		[KIND_AUTHORIZATION_POLICY] = "AuthorizationPolicy",
		[KIND_PEER_AUTHENTICATION] = "PeerAuthentication",
	};

	return (unsigned int)k < KIND_NR ? names[k] : "";
}

bool kind_parse(struct str text, enum kind *ret, struct str *ret_kind_name)
{
	const struct kind_entry *e = kind_by_resource(text);

	if (!e || e->class != KIND_DECODED)
		return false;
	*ret = e->id;
	*ret_kind_name = e->id == KIND_SLICE || e->id == KIND_ROUTE ? str_of(e->kind) : (struct str){ 0 };
	return true;
}
