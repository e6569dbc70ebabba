/* SPDX-License-Identifier: GPL-3.0-or-later */
/* S3's XML answers as AWS and Ceph RGW write them, and as nobody should. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/objstore/s3/xml.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define LIST HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"

static int list(const char *text, struct obj_result *r)
{
	memset(r, 0, sizeof(*r));
	return s3_listing_parse(text, strlen(text), r);
}

static void test_listing(void **state)
{
	struct obj_result r;

	(void)state;
	assert_int_equal(list(LIST
			"<Name>b</Name><Prefix>a&#x01;/</Prefix><KeyCount>3</KeyCount><MaxKeys>3</MaxKeys>"
			"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
			"<NextContinuationToken>tok/en==</NextContinuationToken>"
			"<Contents><Key>a%01/z+%2B%25%C3%A9</Key><LastModified>2013-05-24T00:00:00.500Z"
			"</LastModified><ETag>&quot;abc-2&quot;</ETag><Size>5368709121</Size>"
			"<Owner><ID>x</ID></Owner><StorageClass>GLACIER</StorageClass></Contents>"
			"<Contents><Key>a%01/b</Key><LastModified>2013-05-24T00:00:00Z</LastModified>"
			"<ETag>\"d41d8cd98f00b204e9800998ecf8427e\"</ETag><Size>0</Size></Contents>"
			"<CommonPrefixes><Prefix>a%01/c/</Prefix></CommonPrefixes></ListBucketResult>",
			&r), 0);
	assert_int_equal(r.entry_count, 3);
	assert_string_equal(r.next_token, "tok/en==");
	assert_string_equal(r.entries[0].key, "a\x01/b");
	assert_int_equal(r.entries[0].size, 0);
	assert_true(r.entries[0].mtime_ns == 1369353600LL * 1000000000);
	assert_string_equal(r.entries[0].etag, "d41d8cd98f00b204e9800998ecf8427e");
	assert_string_equal(r.entries[1].key, "a\x01/c/");
	assert_true(r.entries[1].is_prefix);
	assert_string_equal(r.entries[2].key, "a\x01/z +%\xc3\xa9");
	assert_true(r.entries[2].mtime_ns == 1369353600LL * 1000000000 + 500000000);
	assert_true(r.entries[2].size == 5368709121);
	assert_string_equal(r.entries[2].etag, "abc-2");
	assert_string_equal(r.entries[2].storage_class, "GLACIER");
	obj_result_clear(&r);
}

#define VERSIONS HEAD "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define VERSION(key, id) "<Version><Key>" key "</Key><VersionId>" id "</VersionId><IsLatest>false</IsLatest>" \
	"<LastModified>2013-05-24T00:00:00Z</LastModified><ETag>&quot;e" id "&quot;</ETag><Size>7</Size></Version>"

static int versions(const char *text, struct obj_result *r)
{
	memset(r, 0, sizeof(*r));
	return s3_versions_parse(text, strlen(text), "a b", r);
}

/* Of one key, in the order they came; others' rows are not its end. */
static void test_versions(void **state)
{
	struct obj_result r;

	(void)state;
	assert_int_equal(versions(VERSIONS "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
			"<NextKeyMarker>a%20bc</NextKeyMarker><NextVersionIdMarker>9</NextVersionIdMarker>"
			"<DeleteMarker><Key>a%20b</Key><VersionId>3</VersionId><IsLatest>true</IsLatest>"
			"<LastModified>2013-05-24T00:00:00Z</LastModified></DeleteMarker>"
			VERSION("a%20b", "2") VERSION("a%20b", "null") VERSION("a%20bc", "9")
			"</ListVersionsResult>", &r), 0);
	assert_int_equal(r.entry_count, 3);
	assert_true(r.entries[0].is_marker);
	assert_string_equal(r.entries[0].version_id, "3");
	assert_null(r.entries[0].etag);
	assert_false(r.entries[1].is_marker);
	assert_string_equal(r.entries[1].etag, "e2");
	assert_int_equal(r.entries[1].size, 7);
	assert_string_equal(r.entries[2].version_id, "null");
	assert_null(r.next_token);
	obj_result_clear(&r);

	assert_int_equal(versions(VERSIONS "<IsTruncated>true</IsTruncated><NextKeyMarker>a b</NextKeyMarker>"
			"<NextVersionIdMarker>2</NextVersionIdMarker>" VERSION("a b", "2")
			"</ListVersionsResult>", &r), 0);
	assert_string_equal(r.next_token, "2");
	obj_result_clear(&r);

	assert_int_equal(versions(VERSIONS "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
			"<NextKeyMarker>a%20b</NextKeyMarker><NextVersionIdMarker>2</NextVersionIdMarker>"
			VERSION("a%20b", "2") "</ListVersionsResult>", &r), 0);
	assert_string_equal(r.next_token, "2");
	obj_result_clear(&r);
}

/* What is not whole is not taken for all there is. */
static void test_versions_refused(void **state)
{
	static const char *const bad[] = {
		VERSIONS VERSION("a b", "2") "</ListVersionsResult>",
		VERSIONS "<IsTruncated>false</IsTruncated>" VERSION("a b", ""),
		VERSIONS "<IsTruncated>false</IsTruncated>" VERSION("a b", "") "</ListVersionsResult>",
		VERSIONS "<IsTruncated>true</IsTruncated>" VERSION("a b", "2") "</ListVersionsResult>",
		VERSIONS "<IsTruncated>true</IsTruncated><NextKeyMarker>a b</NextKeyMarker>"
			VERSION("a b", "2") "</ListVersionsResult>",
		LIST "<IsTruncated>false</IsTruncated></ListBucketResult>",
	};
	struct obj_result r;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(versions(bad[i], &r), -EBADMSG);
		obj_result_clear(&r);
	}
}

static void test_uploads(void **state)
{
	static const char good[] = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload>"
				   "<Key>a b</Key><UploadId>u1</UploadId><Owner><ID>x</ID></Owner>"
				   "<Initiated>2013-05-24T00:00:01Z</Initiated></Upload>"
				   "</ListMultipartUploadsResult>";
	static const char more[] = "<ListMultipartUploadsResult><NextKeyMarker>a b</NextKeyMarker>"
				   "<NextUploadIdMarker>u9</NextUploadIdMarker><IsTruncated>true</IsTruncated>"
				   "</ListMultipartUploadsResult>";
	static const char *const bad[] = {
		"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>a</Key></Upload>"
		"</ListMultipartUploadsResult>",
		"<ListMultipartUploadsResult></ListMultipartUploadsResult>",
		"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
		"</ListMultipartUploadsResult>",
		"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextUploadIdMarker>u"
		"</NextUploadIdMarker></ListMultipartUploadsResult>",
		LIST "<IsTruncated>false</IsTruncated></ListBucketResult>",
	};
	struct obj_result r = { 0 };

	(void)state;
	assert_int_equal(s3_uploads_parse(good, strlen(good), "a", &r), 0);
	assert_int_equal(r.entry_count, 1);
	assert_string_equal(r.entries[0].key, "a b");
	assert_string_equal(r.entries[0].version_id, "u1");
	assert_int_equal(r.entries[0].mtime_ns % 2000000000, 1000000000);
	assert_null(r.next_token);
	obj_result_clear(&r);
	assert_int_equal(s3_uploads_parse(good, strlen(good), "a b.", &r), 0);
	assert_int_equal(r.entry_count, 0);
	obj_result_clear(&r);
	assert_int_equal(s3_uploads_parse(more, strlen(more), "a", &r), 0);
	assert_string_equal(r.next_token, "u9\na b");
	obj_result_clear(&r);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(s3_uploads_parse(bad[i], strlen(bad[i]), "a", &r), -EBADMSG);
		obj_result_clear(&r);
	}
}

static void test_listing_unencoded(void **state)
{
	struct obj_result r;

	(void)state;
	assert_int_equal(list(LIST "<IsTruncated>false</IsTruncated>"
			"<NextContinuationToken>ignored</NextContinuationToken>"
			"<Contents><Key>a+b%41&amp;</Key><Size>1</Size></Contents></ListBucketResult>",
			&r), 0);
	assert_string_equal(r.entries[0].key, "a+b%41&");
	assert_null(r.next_token);
	obj_result_clear(&r);
}

static void test_tags(void **state)
{
	static const char *const bad[] = {"", "<Tagging><TagSet>", "<Other/>",
			"<Tagging><TagSet><Tag><Value>v</Value></Tag></TagSet></Tagging>"};
	static const char good[] = "<?xml version=\"1.0\"?><Tagging xmlns=\"http://s3.amazonaws.com/doc/\">"
			"<TagSet>\n<Tag><Key>a b</Key><Value>1&amp;\xc3\xa9=</Value></Tag>"
			"<Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>";
	struct obj_result r = {0};
	char *text;

	(void)state;
	assert_int_equal(s3_tags_parse(good, strlen(good), &r), 0);
	assert_string_equal(r.tags, "a%20b=1%26%C3%A9%3D&c=");
	assert_int_equal(r.tag_count, 2);
	obj_result_clear(&r);
	text = s3_tags_write("a%20b=1%26%C3%A9%3D&c=");
	assert_non_null(text);
	assert_int_equal(s3_tags_parse(text, strlen(text), &r), 0);
	assert_string_equal(r.tags, "a%20b=1%26%C3%A9%3D&c=");
	obj_result_clear(&r);
	free(text);
	assert_null(s3_tags_write("a=%zz"));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(s3_tags_parse(bad[i], strlen(bad[i]), &r), -EBADMSG);
		obj_result_clear(&r);
	}
}

/* Whatever is not wholly a listing is none: it would read as absence. */
static void test_listing_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"no xml",
		LIST,
		LIST "<IsTruncated>false</IsTruncated>",
		LIST "<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
		LIST "<IsTruncated>true</IsTruncated></ListBucketResult>",
		LIST "<IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents></ListBucketResult>",
		LIST "<IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
		LIST "<IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>-1</Size></Contents>"
		     "</ListBucketResult>",
		LIST "<IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1x</Size></Contents>"
		     "</ListBucketResult>",
		LIST "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>a%0</Key>"
		     "<Size>1</Size></Contents></ListBucketResult>",
		LIST "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>a%00b</Key>"
		     "<Size>1</Size></Contents></ListBucketResult>",
		LIST "<IsTruncated>false</IsTruncated><Contents><Key>a&#x01;</Key><Size>1</Size></Contents>"
		     "</ListBucketResult>",
		HEAD "<html><IsTruncated>false</IsTruncated></html>",
		HEAD "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><ListBucketResult>"
		     "<IsTruncated>false</IsTruncated><Contents><Key>&b;</Key><Size>1</Size></Contents>"
		     "</ListBucketResult>",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct obj_result r;

		if (list(bad[i], &r) != -EBADMSG) {
			fail_msg("accepted: %s", bad[i]);
		}
		obj_result_clear(&r);
	}
}

static void test_deep_and_long(void **state)
{
	struct obj_result r;
	size_t len = 200000;
	char *text = malloc(len);
	size_t n;

	(void)state;
	assert_non_null(text);
	n = (size_t)sprintf(text, LIST);
	for (int i = 0; i < 100; i++) {
		n += (size_t)sprintf(text + n, "<a>");
	}
	assert_int_equal(list(text, &r), -EBADMSG);
	obj_result_clear(&r);
	n = (size_t)sprintf(text, LIST "<Contents><Key>");
	memset(text + n, 'k', 100000);
	strcpy(text + n + 100000, "</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated>"
				  "</ListBucketResult>");
	assert_int_equal(list(text, &r), -EBADMSG);
	obj_result_clear(&r);
	free(text);
}

static void test_answers(void **state)
{
	static const char error[] = HEAD "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>"
					 "<Region>eu-west-1</Region><RequestId>r1</RequestId></Error>";
	static const char copied[] = HEAD "<CopyObjectResult><LastModified>2013-05-24T00:00:00Z"
					  "</LastModified><ETag>&quot;e1&quot;</ETag></CopyObjectResult>";
	static const char completed[] = HEAD "<CompleteMultipartUploadResult><ETag></ETag>"
					     "</CompleteMultipartUploadResult>";
	static const char begun[] = HEAD "<InitiateMultipartUploadResult><UploadId>2~x/y</UploadId>"
					 "</InitiateMultipartUploadResult>";
	struct s3_answer a;

	(void)state;
	assert_int_equal(s3_answer_parse(error, strlen(error), &a), 0);
	assert_string_equal(a.root, "Error");
	assert_string_equal(a.code, "SignatureDoesNotMatch");
	assert_string_equal(a.region, "eu-west-1");
	assert_string_equal(a.request_id, "r1");
	s3_answer_fini(&a);
	assert_int_equal(s3_answer_parse(copied, strlen(copied), &a), 0);
	assert_string_equal(a.etag, "e1");
	s3_answer_fini(&a);
	assert_int_equal(s3_answer_parse(completed, strlen(completed), &a), 0);
	assert_null(a.etag);
	s3_answer_fini(&a);
	assert_int_equal(s3_answer_parse(begun, strlen(begun), &a), 0);
	assert_string_equal(a.upload_id, "2~x/y");
	s3_answer_fini(&a);
	assert_int_equal(s3_answer_parse(error, strlen(error) - 3, &a), -EBADMSG);
	s3_answer_fini(&a);
}

static void test_etag(void **state)
{
	char *e = s3_etag_plain("W/\"abc\"");

	(void)state;
	assert_string_equal(e, "abc");
	free(e);
	e = s3_etag_plain("abc");
	assert_string_equal(e, "abc");
	free(e);
	assert_null(s3_etag_plain("\"\""));
	assert_null(s3_etag_plain(""));
}

static void test_time(void **state)
{
	(void)state;
	assert_true(s3_time_parse("2026-01-31T12:00:00.123456789Z") == 1769860800123456789LL);
	assert_true(s3_time_parse("yesterday") == -1);
	assert_true(s3_time_parse("") == -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listing),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_uploads),
		cmocka_unit_test(test_versions_refused),
		cmocka_unit_test(test_listing_unencoded),
		cmocka_unit_test(test_listing_refused),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_deep_and_long),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_etag),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
