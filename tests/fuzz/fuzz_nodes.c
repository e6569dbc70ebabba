/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a node's object below .objectfs/nodes/: it says all that is asked of it, about this node, or it is
 * damaged. */
/* Covers: cached/core/nodes.c */
#include <stdlib.h>
#include <string.h>
#include "cached/core/nodes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *doc = nodes_doc_parse("n", data, size);

	if (doc != NULL && (strcmp(json_string_value(json_object_get(doc, "node")), "n") != 0 ||
			json_string_value(json_object_get(doc, "host")) == NULL ||
			json_string_value(json_object_get(doc, "place")) == NULL ||
			json_integer_value(json_object_get(doc, "log")) < 0)) {
		abort();
	}
	json_decref(doc);
	return 0;
}
