/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the table of what can be wrong, and one case of it as JSON.
 * Way: health.c (daemon) and ctl/doctor.c -> here. Thread: any. Owns: nothing.
 * Holds: a finding is never told without what to do about it.
 */
#include "findings.h"

#include <string.h>

const struct finding findings[FINDINGS] = {
#define FINDING_ROW(NAME, id, level, component, what, remedy)                                      \
	[FINDING_##NAME] = {id, component, what, remedy, FINDING_##level},
		OFS_FINDINGS_TABLE(FINDING_ROW)
#undef FINDING_ROW
};

static const char *const state_names[] = {
	[FINDING_ADVICE] = "ok",
	[FINDING_DEGRADED] = "degraded",
	[FINDING_FAILED] = "failed",
};

const char *finding_level_name(enum finding_level level)
{
	return level == FINDING_ADVICE ? "advice" : state_names[level];
}

json_t *finding_json(enum finding_id id, const char *volume, const char *reason)
{
	const struct finding *f = &findings[id];

	return json_pack("{s:s, s:s?, s:s, s:s, s:s, s:s, s:s?, s:s}", "component", f->component,
			"volume", volume, "state", state_names[f->level], "id", f->id, "level",
			finding_level_name(f->level), "what", f->what, "reason", reason, "remedy",
			f->remedy);
}

json_t *finding_ok_json(const char *component, const char *volume)
{
	return json_pack("{s:s, s:s?, s:s}", "component", component, "volume", volume, "state",
			state_names[FINDING_ADVICE]);
}

const char *findings_state(const json_t *list)
{
	unsigned worst = FINDING_ADVICE;
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *state = json_string_value(json_object_get(item, "state"));

		for (unsigned s = worst + 1; state != NULL && s <= FINDING_FAILED; s++) {
			if (strcmp(state, state_names[s]) == 0) {
				worst = s;
			}
		}
	}
	return state_names[worst];
}
