# SPDX-License-Identifier: BSD-2-Clause
# One flat file. V=1 shows commands; O=build/san, build/cov, build/fuzz keep configurations apart.

SANITIZE ?=
COVERAGE ?=
O        ?= build$(if $(SANITIZE),/san)$(if $(COVERAGE),/cov)
CC       ?= gcc
CLANG    ?= clang
BPFTOOL  ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PKG_CONFIG ?= pkg-config
PREFIX   ?= /usr/local
DESTDIR  ?=
WERROR   ?= -Werror

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || cat VERSION 2>/dev/null || echo 0.1.0)

PKGS := libbpf yaml-0.1 libelf zlib libseccomp
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
$(foreach p,$(PKGS),$(if $(shell $(PKG_CONFIG) --exists $(p) && echo y),,\
  $(error package "$(p)" is missing: apt-get install libbpf-dev libyaml-dev libelf-dev zlib1g-dev libseccomp-dev pkg-config)))
endif
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags libbpf yaml-0.1 2>/dev/null)
PKG_LIBS   := $(shell $(PKG_CONFIG) --libs libbpf yaml-0.1 libelf zlib 2>/dev/null)
L7_LIBS    := $(shell $(PKG_CONFIG) --libs libseccomp 2>/dev/null)

CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wno-unused-parameter $(WERROR)
ALL_CFLAGS := -std=gnu11 $(CFLAGS) $(WARN) -Iinclude -Iuser -Ibpf -Itests/unit -I$(O) $(PKG_CFLAGS) \
	-D_GNU_SOURCE $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) \
	$(if $(COVERAGE),--coverage -O0)
ALL_LDFLAGS := $(LDFLAGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(if $(COVERAGE),--coverage)
BPF_CFLAGS := -std=gnu11 -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m))) \
	-Wall -Wextra -Wno-unused-parameter -Wno-missing-declarations -Werror -Iinclude -Ivmlinux -Ibpf $(PKG_CFLAGS) \
	-idirafter /usr/include/$(shell $(CC) -print-multiarch)

ifeq ($(V),)
Q := @
msg = @printf '  %-7s %s\n' $(1) $(2);
else
Q :=
msg =
endif

BASE_SRC    := $(wildcard user/base/*.c)
CONFIG_SRC  := $(wildcard user/config/*.c)
L7_SRC      := $(wildcard user/l7/*.c)
PLANE_SRC   := $(wildcard user/plane/*.c)
MESHCTL_SRC := $(wildcard tools/meshctl/*.c)
BPF_SRC     := $(wildcard bpf/*.bpf.c)
UNIT_SRC    := $(wildcard tests/unit/test_*.c)
NODE_SRC    := $(wildcard tests/node/*.c)
PACKETS_SRC := $(wildcard tests/packets/*.c)
TRANSP_SRC  := $(wildcard tests/transparency/*.c)
L7TEST_SRC  := $(wildcard tests/l7/*.c)
ROWS_SRC    := $(wildcard tests/rows/*.c)
BENCH_SRC   := $(wildcard tests/bench/*.c)
LAB_SRC     := $(wildcard tools/lab.d/*.c)

obj = $(patsubst %.c,$(O)/%.o,$(1))
LIBMESH  := $(O)/libmesh.a
LIBPLANE := $(O)/libplane.a
LIBL7    := $(O)/libl7.a
SKEL     := $(O)/mesh.skel.h
BINS     := $(if $(wildcard user/meshd.c),$(O)/meshd) $(if $(wildcard user/meshl7.c),$(O)/meshl7) $(if $(MESHCTL_SRC),$(O)/meshctl)
LABBINS  := $(patsubst tools/lab.d/%.c,$(O)/lab/%,$(LAB_SRC))
UNITS    := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(UNIT_SRC))
NODEBINS := $(patsubst tests/node/%.c,$(O)/tests/node/%,$(NODE_SRC))
PACKETSBIN := $(O)/tests/packets/packets
TRANSPBIN := $(O)/tests/transparency/transparency
HANDBIN := $(O)/tests/l7/hand
ROWSBIN := $(O)/tests/rows/rows
BENCHBINS := $(patsubst tests/bench/%.c,$(O)/tests/bench/%,$(BENCH_SRC))

.DEFAULT_GOAL := all
FORCE:
.PHONY: FORCE all test itest bench fuzz check cov install clean help testbins
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BINS) $(LABBINS)

help:
	@echo 'targets: all test itest bench fuzz check cov install clean; SANITIZE=address,undefined V=1 O=DIR PREFIX= DESTDIR='

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call msg,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Changes only when the version does.
$(O)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
$(O)/user/base/version.o: ALL_CFLAGS += -DTULLE_VERSION='"$(VERSION)"'
$(O)/user/base/version.o: $(O)/version

$(O)/%.bpf.o: %.bpf.c
	@mkdir -p $(@D)
	$(call msg,BPF,$<)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@ $<

$(O)/mesh.o.bpf: $(patsubst %.bpf.c,$(O)/%.bpf.o,$(BPF_SRC))
	$(call msg,GENOBJ,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

$(SKEL): $(O)/mesh.o.bpf
	$(call msg,GENSKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name mesh > $@

$(call obj,$(PLANE_SRC)): | $(SKEL)
$(O)/user/plane/loader.o: $(SKEL)

$(LIBMESH): $(call obj,$(BASE_SRC) $(CONFIG_SRC))
	$(call msg,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(LIBL7): $(call obj,$(L7_SRC))
	$(call msg,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(LIBPLANE): $(call obj,$(PLANE_SRC))
	$(call msg,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

define link
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(PKG_LIBS) -lm -lpthread
endef

$(O)/meshd: $(O)/user/meshd.o $(LIBPLANE) $(LIBMESH)
	$(link)
$(O)/meshl7: $(O)/user/meshl7.o $(LIBL7) $(LIBMESH)
	$(link)
$(O)/meshctl: $(call obj,$(MESHCTL_SRC)) $(LIBMESH)
	$(link)
# The lab's helpers start once per pod and per command, so they are linked to nothing but libc and user/base.
$(O)/lab/%: $(O)/tools/lab.d/%.o $(call obj,$(BASE_SRC))
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^
$(O)/tests/unit/%: $(O)/tests/unit/%.o $(LIBL7) $(LIBMESH)
	$(link)
$(O)/meshl7 $(O)/tests/unit/test_sandbox: PKG_LIBS += $(L7_LIBS)
# Parts of user/plane that need neither root nor libbpf.
$(O)/tests/unit/test_settings: $(O)/user/plane/settings.o
$(O)/tests/unit/test_imports: $(O)/user/plane/imports.o
$(O)/tests/unit/test_journal: $(O)/user/plane/journal.o
$(O)/tests/unit/test_parser_metrics: $(O)/user/plane/parser_metrics.o
$(O)/tests/unit/test_parser_rules: $(O)/user/plane/parser_rules.o $(O)/user/plane/parser_guards.o
$(O)/tests/unit/test_probe: $(O)/user/plane/probe.o
$(O)/tests/unit/test_shares: $(O)/user/plane/shares.o
$(O)/tests/unit/test_rules: $(patsubst %,$(O)/user/plane/%.o,rules rules_files rules_journal rulesdir journal)
$(O)/tests/node/%: $(O)/tests/node/%.o $(LIBPLANE) $(LIBMESH)
	$(link)
# Of what plane_test has around it, it needs a part.
$(O)/tests/packets/packets.o $(O)/tests/node/verdicts_test.o $(O)/tests/node/endpoints_test.o: ALL_CFLAGS += -Wno-unused-function
$(PACKETSBIN): $(call obj,$(PACKETS_SRC)) $(LIBPLANE) $(LIBMESH)
	$(link)
$(TRANSPBIN): $(call obj,$(TRANSP_SRC))
	$(link)
$(HANDBIN): $(call obj,$(L7TEST_SRC)) $(LIBL7) $(LIBMESH)
	$(link)
$(ROWSBIN): $(call obj,$(ROWS_SRC)) $(O)/user/plane/parser_rules.o $(O)/user/plane/parser_guards.o $(LIBL7) $(LIBMESH)
	$(link)
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(LIBPLANE) $(LIBMESH)
	$(link)

testbins: all $(UNITS) $(NODEBINS) $(PACKETSBIN) $(TRANSPBIN) $(HANDBIN) $(ROWSBIN)

test: all $(UNITS)
	$(Q)tests/run-unit $(O)

itest: all $(NODEBINS) $(PACKETSBIN) $(TRANSPBIN)
	$(Q)tests/run-node $(O)

bench: all $(BENCHBINS) $(HANDBIN)
	$(Q)tests/bench/run $(O)

fuzz:
	$(Q)tests/fuzz/run

cov:
	$(Q)tests/cov

check: all
	$(Q)tools/check --build '$(O)'

install: all
	$(Q)tools/install '$(DESTDIR)' '$(PREFIX)' '$(O)'

clean:
	rm -rf build

-include $(shell find $(O) -type f -name '*.d' 2>/dev/null)
