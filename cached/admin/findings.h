/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What can be wrong, as data: shared by the daemon (`/health`) and objectfsctl (`doctor`). */
#ifndef OFS_ADMIN_FINDINGS_H
#define OFS_ADMIN_FINDINGS_H

#include <jansson.h>
#include "findings_table.h"

enum finding_level { FINDING_ADVICE, FINDING_DEGRADED, FINDING_FAILED };
enum finding_id {
#define FINDING_ID(NAME, id, level, component, what, remedy) FINDING_##NAME,
	OFS_FINDINGS_TABLE(FINDING_ID)
#undef FINDING_ID
	FINDINGS
};

struct finding {
	const char *id, *component, *what, *remedy;
	enum finding_level level;
};
extern const struct finding findings[FINDINGS];

/* {component, volume, state, id, level, what, reason, remedy}; volume NULL: of none. Reason: text of the
 * case, UTF-8. A new reference, or NULL: out of memory. */
json_t *finding_json(enum finding_id id, const char *volume, const char *reason);
/* {component, volume, state: "ok"} */
json_t *finding_ok_json(const char *component, const char *volume);
/* The worst of a list of these: "ok", "degraded" or "failed". */
const char *findings_state(const json_t *list);
const char *finding_level_name(enum finding_level level);

#endif
