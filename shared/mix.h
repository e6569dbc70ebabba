/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A well mixed 64-bit hash of few words; not cryptographic (finaliser of SplitMix64, Steele 2014). */
#ifndef OFS_SHARED_MIX_H
#define OFS_SHARED_MIX_H

#include <stdint.h>

static inline uint64_t ofs_mix64(uint64_t h, uint64_t word)
{
	uint64_t z = (h ^ word) + 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

#endif
