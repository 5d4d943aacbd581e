/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How what two pods say to each other may be carried: from socket to socket, past TCP, and from link to link. Says what settings,
 * annotations, places and programs allow; what becomes of a connection depends on how it is used.
 */
#include <stdlib.h>

#include "config/explain_local.h"

/* What one way is: possible or not, with a reason, or what to know of it; empty: nothing. */
struct way {
	bool open;
	struct str why;
};

struct ways {
	enum accelerate mode; /* the more careful of both ends' */
	struct str by;	      /* what says so */
	struct way past, straight;
};

/* One end. */
struct side {
	const struct client *c; /* NULL: nobody whom the rules know */
	struct explain_pod pod;
};

static struct side side_of(const struct asking *q, const struct client *c)
{
	struct side s = { .c = c };

	if (c)
		q->node->pod(q->node->data, c, &s.pod);
	return s;
}

static enum accelerate mode_of(const struct asking *q, const struct client *c)
{
	return c->accelerate ? c->accelerate : q->node->accelerate;
}

/* "pod ns/name", "service ns/name", "namespace name" or "mesh": what says it. */
static struct str mode_by(const struct client *c, struct arena *a)
{
	if (!c->accelerate)
		return STR("mesh");
	if (str_is(c->accelerate_by, "pod"))
		return arena_printf(a, "pod %.*s/%.*s", STR_ARG(c->ns), STR_ARG(c->name));
	if (str_is(c->accelerate_by, "namespace"))
		return arena_printf(a, "namespace %.*s", STR_ARG(c->ns));
	return c->accelerate_by;
}

/* Why neither way is open between the two, wherever their rules lead; empty: that does not speak against it. */
static struct str place_why(const struct side *client, const struct side *server, const struct u_row *r)
{
	if (r && r->l7)
		return STR("meshl7 is between the client and the server");
	if (!client->pod.here)
		return STR("the client is no pod of this node");
	if (!server->pod.here)
		return STR("the server is no pod of this node");
	return (struct str){ 0 };
}

/* What the programs say that this end runs. True: none that is known may go past TCP; *why has the reason, or what to know. */
static bool splices(const struct side *s, struct arena *a, struct str *why)
{
	bool all = s->pod.splices == s->pod.programs;

	if (s->c->no_splice || !s->pod.splices)
		return false;
	*why = arena_printf(a, "%s%.*s/%.*s may splice: %s", all ? "" : "not by all programs: one of ",
			    STR_ARG(s->c->ns), STR_ARG(s->c->name), s->pod.splicer);
	return all;
}

/* Each of the two connections is for itself: the client's with meshl7, and the one from there. */
static struct way parser_way(const struct asking *q, const struct side *client, const struct side *server,
			     struct str place)
{
	bool from = client->pod.here && mode_of(q, client->c) == ACCELERATE_ON;
	bool to = server->pod.here && mode_of(q, server->c) == ACCELERATE_ON;

	if (!q->node->parser)
		return (struct way){ .why = place };
	if (!from && !to)
		return (struct way){ .why = STR("with meshl7, which takes accelerate: on") };
	if (q->node->no_acceleration)
		return (struct way){ .why = str_of(q->node->no_acceleration) };
	return (struct way){ true, from && to ? STR("between the client and meshl7, and from there to the server")
				   : from     ? STR("between the client and meshl7")
					      : STR("between meshl7 and the server") };
}

static struct way past_way(const struct asking *q, const struct side *client, const struct side *server,
			   const struct ways *w, struct str place, const struct u_row *r, struct arena *a)
{
	struct str why = { 0 };

	if (r && r->l7)
		return parser_way(q, client, server, place);
	if (place.len)
		return (struct way){ .why = place };
	if (w->mode == ACCELERATE_OFF)
		return (struct way){ .why = STR("accelerate is off") };
	if (q->node->no_acceleration)
		return (struct way){ .why = str_of(q->node->no_acceleration) };
	if (client->c == server->c && !q->node->loopback)
		return (struct way){ .why = STR("inside one pod, and accelerate-loopback is off") };
	if (w->mode == ACCELERATE_ON)
		return (struct way){ .open = true };
	if (!str_eq(client->c->ns, server->c->ns))
		return (struct way){ .why = STR("between namespaces, which takes accelerate: on at both ends") };
	if (splices(client, a, &why) || splices(server, a, &why))
		return (struct way){ .why = why };
	return (struct way){ true, why };
}

static struct way straight_way(const struct asking *q, const struct side *client, const struct side *server,
			       struct str place)
{
	if (place.len)
		return (struct way){ .why = place };
	if (q->node->no_shortcut)
		return (struct way){ .why = str_of(q->node->no_shortcut) };
	if (client->c == server->c)
		return (struct way){ .why = STR("inside one pod") };
	if (client->pod.no_shortcut || server->pod.no_shortcut)
		return (struct way){ .why = str_of(client->pod.no_shortcut ? client->pod.no_shortcut
									   : server->pod.no_shortcut) };
	return (struct way){ .open = true };
}

static struct ways find_ways(const struct asking *q, const struct side *client, const struct addr *addr,
			     const struct u_row *r, struct arena *a)
{
	struct side server = side_of(q, client_at(q->s, addr));
	struct str place = place_why(client, &server, r);
	const struct client *says = client->c;
	struct ways w;

	if (server.c && mode_of(q, server.c) < mode_of(q, client->c))
		says = server.c;
	w = (struct ways){ .mode = mode_of(q, says), .by = mode_by(says, a) };
	w.past = past_way(q, client, &server, &w, place, r, a);
	w.straight = straight_way(q, client, &server, place);
	return w;
}

static bool same_way(const struct way *a, const struct way *b)
{
	return a->open == b->open && str_eq(a->why, b->why);
}

static bool same_ways(const struct ways *a, const struct ways *b)
{
	return a->mode == b->mode && str_eq(a->by, b->by) && same_way(&a->past, &b->past) &&
	       same_way(&a->straight, &b->straight);
}

static void say_way(struct buf *out, const struct way *w)
{
	buf_printf(out, "%s%s%.*s", w->open ? "possible" : "no", w->why.len ? ": " : "", STR_ARG(w->why));
}

static void say_both(struct asking *q, const struct ways *w, const struct server *v, uint32_t nr, bool all)
{
	struct buf *out = q->text;

	buf_printf(out, "  past TCP");
	say_servers(out, v, nr, all);
	say_way(out, &w->past);
	buf_printf(out, " (accelerate: %s, by %.*s)\n  shortcut", accelerate_text(w->mode), STR_ARG(w->by));
	say_servers(out, v, nr, all);
	say_way(out, &w->straight);
	buf_add(out, "\n", 1);
}

static void json_way(struct json *j, const char *key, const struct way *w)
{
	json_kbool(j, key, w->open);
	json_key(j, "why");
	if (w->why.len)
		json_str(j, w->why);
	else
		json_null(j);
}

static void json_both(struct json *j, const struct ways *w, const struct server *v, uint32_t nr)
{
	json_object(j);
	json_key(j, "acceleration");
	json_object(j);
	json_kstr(j, "mode", str_of(accelerate_text(w->mode)));
	json_kstr(j, "by", w->by);
	json_way(j, "eligible", &w->past);
	json_object_end(j);
	json_key(j, "shortcut");
	json_object(j);
	json_way(j, "on", &w->straight);
	json_object_end(j);
	json_servers(j, v, nr);
	json_object_end(j);
}

static void say_found(struct asking *q, const struct ways *found, struct server *v, uint32_t nr)
{
	bool *done = xcalloc((size_t)nr + 1, sizeof(*done));

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t same = 0;

		if (done[i])
			continue;
		for (uint32_t k = 0; k < nr; k++) {
			v[k].said = same_ways(&found[i], &found[k]);
			done[k] |= v[k].said;
			same += v[k].said;
		}
		say_both(q, &found[i], v, nr, same == nr);
		if (q->json)
			json_both(q->json, &found[i], v, nr);
	}
	free(done);
}

void say_ways(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	bool none = !q->node || q->proto != MESH_PROTO_TCP || is_outside(q) || access_unknown(q, addr, r);
	struct arena arena = { 0 };
	struct server *v = NULL;
	struct ways *found;
	struct side client;
	uint32_t nr = 0;

	if (q->json) {
		json_key(q->json, "ways");
		json_array(q->json);
	}
	if (!none) {
		client = side_of(q, q->client);
		v = servers_of(q, u, addr, r, &nr);
		found = xcalloc((size_t)nr + 1, sizeof(*found));
		for (uint32_t i = 0; i < nr; i++)
			found[i] = find_ways(q, &client, &v[i].addr, r, &arena);
		say_found(q, found, v, nr);
		free(found);
	}
	if (q->json)
		json_array_end(q->json);
	free(v);
	arena_release(&arena);
}
