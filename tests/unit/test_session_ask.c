/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the daemon asks its clients first: news and questions. Links everything of cached/ but main.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/announce.h"
#include "cached/core/ask.h"
#include "cached/reconcile/index.h"
#include "tests/lib/daemon_fixture.h"

struct asked {
	unsigned done;
	int status;
};

static void on_asked(int status, const uint8_t *frame, size_t len, void *arg)
{
	struct asked *asked = arg;
	struct ofs_notify_rep rep;

	asked->done++;
	asked->status = status;
	if (status == 0) {
		assert_int_equal(ofs_wire_decode_notify_rep(frame, len, &rep), 0);
		asked->status = rep.status;
	}
}

static void ask_notify(struct fixture *f, struct asked *asked)
{
	struct asker *as = f->core->volumes[0]->asker;
	struct ofs_notify_req m = {.kind = OFS_WIRE_NOTIFY_ADDED, .path = "a/b"};
	uint64_t id = ask_next_id(as);
	uint8_t *frame = malloc(256);

	ask_send(as, id, frame, ofs_wire_encode_notify_req(frame, 256, id, &m), on_asked, asked);
}

static void asked_answer(struct fixture *f, int fd, uint64_t id, int status)
{
	struct ofs_notify_rep rep = {.status = status};
	uint8_t buf[256];
	ssize_t len = ofs_wire_encode_notify_rep(buf, sizeof(buf), id, &rep);

	client_send(f, fd, buf, (size_t)len, NULL, 0);
}

static void test_questions_survive_who_was_asked(void **state)
{
	struct fixture *f = *state;
	int one = client_open(f), two = client_open(f);
	struct asked first = {0}, second = {0}, third = {0};
	struct ofs_notify_req m;
	struct answer a;
	uint64_t id;

	ask_notify(f, &first);
	assert_int_equal(first.status, -ENOTCONN); /* nobody is there */
	client_hello_ok(f, one, &a);
	answer_fds_close(&a);
	client_hello_ok(f, two, &a);
	answer_fds_close(&a);
	ask_notify(f, &first);
	ask_notify(f, &second);
	assert_true(client_answer(f, one, &a));
	assert_int_equal(a.head.flags, 0);
	assert_true((a.head.request_id & OFS_WIRE_ID_DAEMON) != 0);
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "a/b");
	id = a.head.request_id;
	close(one); /* it dies with both: the other one is asked, in order */
	assert_true(client_answer(f, two, &a));
	assert_true(a.head.request_id == id);
	asked_answer(f, two, id, 0);
	asked_answer(f, two, id, -EIO); /* nobody's any more */
	assert_true(client_answer(f, two, &a));
	assert_true(a.head.request_id > id);
	asked_answer(f, two, a.head.request_id, -EOPNOTSUPP);
	client_send(f, two, a.frame, a.head.length, NULL, 0); /* what is ours to ask */
	assert_true(client_is_closed(f, two));
	assert_int_equal(first.done, 2);
	assert_int_equal(first.status, 0);
	assert_int_equal(second.done, 1);
	assert_int_equal(second.status, -EOPNOTSUPP);
	ask_notify(f, &third);
	assert_int_equal(third.status, -ENOTCONN);
	close(two);
}

static void test_news_are_told_and_counted(void **state)
{
	struct fixture *f = *state;
	struct volume *v = f->core->volumes[0];
	int64_t sent = stats_get(notifies_sent), dropped = stats_get(notifies_dropped);
	int fd = client_open(f);
	struct ofs_notify_req m;
	struct news *news = NULL;
	struct answer a;

	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
	news_add(v, &news, OFS_WIRE_NOTIFY_ADDED, "told", false);
	news_add(v, &news, OFS_WIRE_NOTIFY_REMOVED, "refused", true);
	announce(v->announcer, &OFS_OID_ROOT, &news);
	assert_null(news);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "told");
	asked_answer(f, fd, a.head.request_id, 0);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "refused");
	assert_int_equal(m.flags, OFS_WIRE_NOTIFY_DIR);
	asked_answer(f, fd, a.head.request_id, -EOPNOTSUPP);
	for (int i = 0; i < 2000 && stats_get(notifies_dropped) == dropped; i++) {
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	assert_int_equal(stats_get(notifies_sent), sent + 1);
	assert_int_equal(stats_get(notifies_dropped), dropped + 1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_questions_survive_who_was_asked,
					daemon_setup, daemon_teardown),
			cmocka_unit_test_setup_teardown(test_news_are_told_and_counted,
					daemon_setup, daemon_teardown),
	};

	talloc_disable_null_tracking();
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
