# SPDX-License-Identifier: GPL-3.0-or-later
#
#   make deps       install the Debian packages that are missing (root)
#   make            build/objectfs.so, build/objectfs-cached, build/objectfsctl
#   make test       everything that gates; also: check, unit, replay, sim, scenario, smb
#   make sim SEEDS=100 FIRST=1     so many random lives in each class of store, and what was tried
#   make demo       a running share to look at; make demo-stop ends it
#   make install    DESTDIR= PREFIX=/usr/local; make uninstall
#   make deb        Debian packages into build/deb/
#   make fuzz       libFuzzer (clang) on every target, FUZZ_SECONDS=60 each; ONLY=NAME: on one
#   make coverage   which branches of the rooms that keep what was acknowledged the tests take; ONLY=recall, SEEDS=100,
#                   SCENARIOS=1 (tests/coverage/coverage)
#   make fuzz-coverage   what each fuzz target has reached, of the files it names (clang, llvm)
#   make test-long  what takes long, one after the other: half a day. LIST=1: what there is; ONLY=NAME ARGS=: one
#
# V=1 shows the commands. CC=clang. SAMBA_SOURCE=DIR: Samba's source, instead of through apt.
# SANITIZER=address|undefined|thread|address,undefined builds into build/<sanitizer>/.
#
# Sources are found, not listed: a new file in a room is built into what the room belongs to.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

ifeq ($(origin CC),default)
CC := gcc
endif
V ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
else
Q :=
say = @:
endif

PREFIX ?= /usr/local
SANITIZER ?=
FUZZER ?=
FUZZ_SECONDS ?= 60
comma := ,
B := build$(if $(FUZZER),/fuzzer,$(if $(SANITIZER),/$(subst $(comma),-,$(SANITIZER))))

# --- flags ----------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Werror
CFLAGS ?= -O2 -g
# SANITIZER=coverage is the build of `make coverage`: the daemon's and the tests' branches are counted.
coverage := $(filter coverage,$(SANITIZER))
sanitize := $(if $(coverage),,$(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer \
	$(if $(findstring undefined,$(SANITIZER)),-fno-sanitize-recover=undefined)))
counted := $(if $(coverage),-O0 -w --coverage -fprofile-update=prefer-atomic)
fuzz_flags := $(if $(FUZZER),-fsanitize=fuzzer-no-link)
COMMON = -std=gnu11 $(WARN) $(CFLAGS) $(sanitize) $(fuzz_flags) -I. -MMD -MP

PACKAGES := talloc tevent libcurl openssl expat sqlite3 jansson libmicrohttpd libzstd
LIB_CFLAGS := -D_GNU_SOURCE= $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -linih -lpthread
LINK = $(CC) $(CFLAGS) $(sanitize) $(if $(coverage),--coverage -Wl$(comma)--wrap=_exit) $(LDFLAGS) -Wl,--as-needed

# --- the installed Samba --------------------------------------------------------------------------
export PATH := $(PATH):/usr/sbin:/sbin
SMBD := $(shell command -v smbd 2>/dev/null)
SAMBA_VERSION := $(if $(SMBD),$(shell $(SMBD) -V 2>/dev/null | sed 's/^Version \([0-9.]*\).*/\1/'))
SAMBA := build/samba-$(SAMBA_VERSION)
SAMBA_DIRS := gen/include gen/source3 gen/source3/include gen gen/lib \
	source/source3 source/source3/include source/lib source/source4 source/source4/lib \
	source/include source/lib/replace source source/lib/tdb/include
# VFS signatures carry parameters that a given function has no use for.
MODULE_CFLAGS = -fPIC -fvisibility=hidden -Wno-unused-parameter -D_GNU_SOURCE \
	-D_SAMBA_BUILD_=4 -DHAVE_CONFIG_H=1 -D__STDC_WANT_LIB_EXT1__=1 \
	-DOFS_SAMBA_VERSION='"$(SAMBA_VERSION)"' $(addprefix -isystem $(SAMBA)/,$(SAMBA_DIRS))

# --- sources --------------------------------------------------------------------------------------
mains = $(if $(1),$(shell grep -lE '^int main.(void|int) *' $(1) /dev/null))
objects = $(patsubst %.c,$(B)/$(1)/%.o,$(2))

SHARED_SRC := $(wildcard shared/*.c)
MODULE_SRC := $(wildcard vfs_objectfs/*.c)
CTL_SRC := $(wildcard cached/ctl/*.c)
DAEMON_SRC := $(wildcard cached/*.c)
CACHED_SRC := $(shell find cached -mindepth 2 -name '*.c' ! -path 'cached/ctl/*' 2>/dev/null | sort)
UNIT_SRC := $(wildcard tests/unit/*.c)
SIM_SRC := $(wildcard tests/sim/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
S3SIM_SRC := $(wildcard tests/s3sim/*.c)
UNIT_MAIN := $(call mains,$(UNIT_SRC))
SIM_MAIN := $(call mains,$(SIM_SRC))
# what tests share: files of these rooms without a main
# programs that scenarios run
HELPER_MAIN := $(call mains,$(wildcard tests/lib/*.c))
TESTLIB_SRC := $(filter-out $(HELPER_MAIN),$(wildcard tests/lib/*.c)) $(filter-out $(UNIT_MAIN),$(UNIT_SRC)) \
	$(filter-out $(SIM_MAIN),$(SIM_SRC))
HEADERS := $(shell find shared cached vfs_objectfs tests -name '*.h' 2>/dev/null | sort)

MODULE_OBJ := $(call objects,module,$(MODULE_SRC) $(SHARED_SRC))
CACHED_OBJ := $(call objects,obj,$(CACHED_SRC) $(SHARED_SRC) $(if $(coverage),tests/coverage/exit.c))
CTL_OBJ := $(call objects,obj,$(CTL_SRC))
MAIN_OBJ := $(call objects,obj,$(DAEMON_SRC))
TESTLIB_OBJ := $(call objects,obj,$(TESTLIB_SRC))
S3SIM_OBJ := $(call objects,obj,$(S3SIM_SRC))

UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(UNIT_MAIN))
SIM := $(patsubst tests/sim/%.c,$(B)/tests/sim/%,$(SIM_MAIN))
HELPERS := $(patsubst tests/lib/%.c,$(B)/tests/%,$(HELPER_MAIN))
# a disk that remembers, for scenario/power; where FUSE's headers are
POWER := $(if $(shell pkg-config --exists fuse3 && echo 1),$(B)/tests/power_disk)
REPLAY := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(FUZZ_SRC))
FUZZERS := $(if $(FUZZER),$(patsubst tests/fuzz/%.c,$(B)/%,$(if $(ONLY),tests/fuzz/fuzz_$(ONLY).c,$(FUZZ_SRC))))

# --- what `make` makes: of what there is a source for -----------------------------------------------
PROGRAMS := $(if $(MODULE_SRC),$(B)/objectfs.so) $(if $(MAIN_OBJ),$(B)/objectfs-cached) \
	$(if $(CTL_SRC),$(B)/objectfsctl)
MANUAL := $(patsubst docs/man/%,$(B)/man/%,$(wildcard docs/man/*.[1-8])) $(B)/completion
.PHONY: all module cached ctl tests unit-programs deps deps-run
all: $(PROGRAMS) $(MANUAL)
module: $(B)/objectfs.so
cached: $(B)/objectfs-cached
ctl: $(B)/objectfsctl
tests: $(UNIT) $(SIM) $(REPLAY) $(HELPERS) $(B)/s3sim $(POWER) $(B)/tests/nth_preload.so

# Flags are part of what an object depends on.
stamp_text = $(CC) $(COMMON) $(counted) $(LIB_CFLAGS) $(MODULE_CFLAGS)
$(B)/flags: force
	@mkdir -p $(B)
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@
$(B)/flags: export FLAGS = $(stamp_text)
.PHONY: force
force:

$(B)/obj/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(LIB_CFLAGS) $(EXTRA_CFLAGS) $(counted) -c -o $@ $<

# Tests of the module's own parts see Samba's headers too.
$(B)/obj/tests/unit/test_vfs_%.o: tests/unit/test_vfs_%.c $(B)/flags | $(SAMBA)/version
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(MODULE_CFLAGS) -c -o $@ $<

$(B)/module/%.o: %.c $(B)/flags | $(SAMBA)/version
	$(call say,CC,$< (module))
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(MODULE_CFLAGS) -c -o $@ $<
$(B)/module/shared/%.o: shared/%.c $(B)/flags
	$(call say,CC,$< (module))
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) -D_GNU_SOURCE= -fPIC -fvisibility=hidden -c -o $@ $<

build/samba-%/version:
	$(if $(SMBD),,$(error no smbd here: run 'make deps' (as root) first))
	$(call say,HEADERS,Samba $(SAMBA_VERSION) -> $(@D))
	$(Q)CC='$(CC)' packaging/build/samba-headers $(@D)

# Undefined symbols are smbd's: not an error here, checked by `make check`.
$(B)/objectfs.so: $(MODULE_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(CFLAGS) $(sanitize) $(LDFLAGS) -o $@ $^

$(B)/libcached.a: $(CACHED_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^
# What long/mutants links its programs with: of a changed source no program is linked anew.
$(B)/libcached.so: $(CACHED_OBJ)
	$(call say,LINK,$@)
	$(Q)$(LINK) -shared -o $@ $^ $(LIBS)
$(B)/libtests.a: $(TESTLIB_OBJ)
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/objectfs-cached: $(MAIN_OBJ) $(B)/libcached.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/objectfsctl: $(CTL_OBJ) $(B)/libcached.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)

# The manual's tables and the completion come from the tables in code.
$(B)/manual: $(B)/obj/packaging/build/manual.o $(B)/libcached.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/man/%: docs/man/% $(B)/manual
	$(call say,MAN,$@)
	@mkdir -p $(@D)
	$(Q)$(B)/manual <$< >$@
$(B)/completion: packaging/completion $(B)/manual
	$(call say,MAN,$@)
	$(Q)$(B)/manual <$< >$@

test_libs := $(B)/libtests.a $(B)/libcached.a
$(UNIT): $(B)/tests/%: $(B)/obj/tests/unit/%.o $(test_libs)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
$(HELPERS): $(B)/tests/%: $(B)/obj/tests/lib/%.o $(test_libs)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
$(B)/tests/power_disk: tests/power/power_disk.c $(B)/flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(LIB_CFLAGS) $(shell pkg-config --cflags fuse3) $(LDFLAGS) -o $@ $< \
		$(shell pkg-config --libs fuse3)
$(SIM): $(B)/tests/sim/%: $(B)/obj/tests/sim/%.o $(test_libs)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
# Calls of processes as they are fail: loaded before everything else.
$(B)/tests/nth_preload.so: tests/nth/preload.c $(B)/flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out $(sanitize),$(COMMON)) $(LIB_CFLAGS) -fPIC -shared -o $@ $<
# Its calls fail: malloc, the kernel's and SQLite's are its own.
$(B)/tests/sim/sim_nth: $(B)/obj/tests/nth/calls.o
# A disk of their own that the power can be taken from.
$(addprefix $(B)/tests/sim/sim_,disk core others): $(patsubst %.c,$(B)/obj/%.o,$(filter-out tests/nth/preload.c,$(wildcard tests/nth/*.c)))
$(REPLAY): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(test_libs)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
replay-programs: $(if $(ONLY),$(B)/tests/fuzz/fuzz_$(ONLY),$(REPLAY))
# An S3 server for tests, of nothing but its own.
$(B)/s3sim: $(S3SIM_OBJ)
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
# What tests/bench measures apart from a running system; bench.py makes what it needs itself.
$(B)/bench/index: $(B)/obj/tests/bench/index.o $(B)/libcached.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS)

# --- tests ------------------------------------------------------------------------------------------
.PHONY: test test-long check unit replay sim scenario smb fuzz fuzz-run fuzz-coverage replay-programs
# A second make, because what deps installs changes what this file finds.
test: deps
	$(Q)$(MAKE) --no-print-directory all tests
	$(Q)SANITIZER='$(SANITIZER)' MAKE='$(MAKE)' tests/run $(TESTS)
# What is said to this make is not said to those that tests call.
test-long:
	$(Q)$(if $(LIST),,$(MAKE) --no-print-directory deps all tests)
	$(Q)env -u ONLY -u LIST -u MAKEFLAGS -u MFLAGS tests/run $(if $(LIST),--list) long $(ONLY) \
		$(if $(ARGS),-- $(ARGS))
unit replay sim: tests
	$(Q)SANITIZER='$(SANITIZER)' $(if $(and $(SEEDS),$(filter sim,$@)),tests/ledger sim $(SEEDS) $(FIRST),\
		MAKE='$(MAKE)' tests/run $@)
scenario smb: all tests
	$(Q)SANITIZER='$(SANITIZER)' MAKE='$(MAKE)' tests/run $@ $(TESTS)
check: all
	$(Q)CC='$(CC)' B='$(B)' MODULE_CFLAGS="$$MODULE_CFLAGS_TEXT" \
		LIB_CFLAGS='$(LIB_CFLAGS)' packaging/build/check $(HEADERS)
check: export MODULE_CFLAGS_TEXT = $(MODULE_CFLAGS)

fuzz:
	$(Q)$(MAKE) --no-print-directory CC=clang SANITIZER=address,undefined FUZZER=1 fuzz-run
fuzz-run: $(FUZZERS)
	$(Q)for target in $(FUZZERS); do \
		name=$${target##*/fuzz_}; mkdir -p "$(B)/corpus/$$name" "tests/fuzz/corpus/$$name"; \
		echo "  FUZZ     $$name ($(FUZZ_SECONDS) s)"; \
		"$$target" -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -print_final_stats=1 \
			-artifact_prefix="$(B)/$$name-" "$(B)/corpus/$$name" \
			"tests/fuzz/corpus/$$name"; \
	done
$(FUZZERS): $(B)/%: $(B)/obj/tests/fuzz/%.o $(test_libs)
	$(call say,LINK,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(LIBS) -lcmocka
fuzz-coverage:
	$(Q)$(MAKE) --no-print-directory CC=clang B=build/fuzz-coverage \
		CFLAGS='-O1 -g -fprofile-instr-generate -fcoverage-mapping' replay-programs
	$(Q)tests/fuzz/coverage build/fuzz-coverage $(ONLY)

.PHONY: coverage
coverage:
	$(Q)$(MAKE) --no-print-directory SANITIZER=coverage all tests
	$(Q)tests/coverage/coverage $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SCENARIOS),--scenarios) $(ONLY)

# --- packages, demo, install --------------------------------------------------------------------------
deps:
	$(Q)packaging/build/deps run test
deps-run:
	$(Q)packaging/build/deps run $(if $(S3_URL),s3)

.PHONY: demo demo-stop install uninstall deb clean
demo: deps-run
	$(Q)$(MAKE) --no-print-directory all
	$(Q)S3_URL='$(S3_URL)' S3_ENDPOINT='$(S3_ENDPOINT)' LISTEN='$(LISTEN)' PORT='$(PORT)' \
		packaging/demo start
demo-stop:
	$(Q)packaging/demo stop

MODULES_DIR = $(shell $(SMBD) -b 2>/dev/null | sed -n 's/^ *MODULESDIR: *//p')
share := $(PREFIX)/share
completions := $(share)/bash-completion/completions
# MODE:SOURCE:TARGET of every file that belongs on a machine.
INSTALLED = 644:$(B)/objectfs.so:$(MODULES_DIR)/vfs/objectfs.so \
	755:$(B)/objectfs-cached:$(PREFIX)/sbin/objectfs-cached \
	755:$(B)/objectfsctl:$(PREFIX)/sbin/objectfsctl \
	644:$(B)/objectfs-cached.service:$(PREFIX)/lib/systemd/system/objectfs-cached.service \
	644:packaging/objectfs.tmpfiles:$(PREFIX)/lib/tmpfiles.d/objectfs.conf \
	644:packaging/objectfs.sysusers:$(PREFIX)/lib/sysusers.d/objectfs.conf \
	644:packaging/objectfs.logrotate:/etc/logrotate.d/objectfs \
	644:packaging/objectfs.conf.example:$(share)/doc/objectfs/objectfs.conf \
	$(foreach name,objectfsctl objectfs-cached,644:$(B)/completion:$(completions)/$(name)) \
	$(foreach page,$(wildcard docs/man/*.[1-8]),644:$(B)/man/$(notdir $(page)):$(share)/man/man$(patsubst \
		.%,%,$(suffix $(page)))/$(notdir $(page))) \
	$(foreach page,COSTS FORMAT IAM OPERATIONS QUICKSTART RECOVERY SECURITY SEMANTICS TROUBLESHOOTING,644:docs/$(page).md:$(share)/doc/objectfs/$(page).md) \
	$(foreach file,$(wildcard smb.conf.d/*.conf),644:$(file):$(share)/doc/objectfs/$(file))

$(B)/objectfs-cached.service: packaging/objectfs-cached.service.in force
	$(Q)sed 's|@sbindir@|$(PREFIX)/sbin|' $< | cmp -s - $@ || sed 's|@sbindir@|$(PREFIX)/sbin|' $< >$@

install: all $(B)/objectfs-cached.service
	$(Q)test -n "$(MODULES_DIR)" || { echo "install: no smbd to install the module for" >&2; exit 1; }
	$(Q)for file in $(INSTALLED); do \
		IFS=: read -r mode source target <<<"$$file"; \
		install -D -m "$$mode" "$$source" "$(DESTDIR)$$target"; \
	done
	@echo "installed: $(DESTDIR)$(MODULES_DIR)/vfs/objectfs.so, and objectfs-cached and objectfsctl in $(DESTDIR)$(PREFIX)/sbin"

# FORCE=1: although something may not be in the object store yet. Mirror and configuration stay.
uninstall:
	$(Q)FORCE='$(FORCE)' packaging/build/pending '$(DESTDIR)$(PREFIX)/sbin/objectfsctl'
	$(Q)for file in $(INSTALLED); do \
		rm -f "$(DESTDIR)$${file##*:}"; \
	done
	$(Q)rmdir --ignore-fail-on-non-empty $(DESTDIR)$(share)/doc/objectfs/smb.conf.d \
		$(DESTDIR)$(share)/doc/objectfs 2>/dev/null || true
	@echo "uninstalled; /etc/objectfs and the mirrors in /var/cache/objectfs stay"

# The packages are for the Samba that is installed here.
DEB_REVISION ?= 1
DEB_OUT ?= $(B)/deb
deb_version = $(shell sed -n 's/.*OFS_VERSION "\(.*\)"/\1/p' shared/version.h)-$(DEB_REVISION)
deb:
	$(Q)root=$$(mktemp -d) && trap 'rm -rf "$$root"' EXIT && \
		$(MAKE) -s --no-print-directory install PREFIX=/usr DESTDIR="$$root" >/dev/null && \
		SAMBA_VERSION='$(SAMBA_VERSION)' MODULES_DIR='$(MODULES_DIR)' \
		packaging/debian/build "$$root" '$(DEB_OUT)' '$(deb_version)'

# Samba's headers stay: they change with Samba's version only. `rm -rf build` removes them too.
clean:
	$(Q)if [ -d build/demo ]; then echo "clean: a demo is there; 'make demo-stop' first" >&2; exit 1; fi
	$(Q)find build -mindepth 1 -maxdepth 1 ! -name 'samba-*' -exec rm -rf {} + 2>/dev/null || true

-include $(shell find $(B)/obj $(B)/module -name '*.d' -type f 2>/dev/null)
