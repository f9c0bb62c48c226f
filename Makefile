# portcullis. `make test` is everything that must hold; it needs Rust, a Debian-like system, and
# root or sudo for the tests with a real sshd.

PREFIX ?= /usr/local
DESTDIR ?=
SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
CARGO ?= cargo
# Where cargo builds, if not here.
BUILT = $(or $(CARGO_TARGET_DIR),target)/release
PROGRAMS_BUILT = $(BUILT)/knockd $(BUILT)/knockctl $(BUILT)/knock

# Where Debian keeps nft and sshd, also for users who do not have it in their path.
export PATH := $(PATH):/usr/sbin:/sbin

# What the system tests use and we did not write: program=package.
PROGRAMS = nft=nftables knock=knockd knockd=knockd nc=netcat-openbsd sshd=openssh-server ssh=openssh-client \
	ssh-keygen=openssh-client nmap=nmap ip=iproute2 setpriv=util-linux tcpdump=tcpdump \
	telnet=telnet curl=curl python3=python3 \
	iptables-restore=iptables ip6tables-restore=iptables iptables-legacy=iptables ipset=ipset \
	ufw=ufw fail2ban-server=fail2ban fail2ban-client=fail2ban dash=dash shellcheck=shellcheck \
	faketime=faketime strace=strace fwknopd=fwknop-server fwknop=fwknop-client
SYSTEM_TESTS = --test system --test state --test nft_binary --test init --test conformance --test coexistence --test faults \
	--test sweeps

# The system tests are root's: sshd cannot change to a user otherwise.
ifneq ($(shell id -u),0)
AS_ROOT = --config "target.'cfg(all())'.runner = ['sudo', '-E']"
endif

.PHONY: all build demo test programs lint deny docs manuals unit system test-long bench built \
	install install-sysv install-openrc uninstall clean

all: build

# Cargo leaves alone what is as it was; `install` is to see that it was looked at.
build:
	$(CARGO) build --release --locked
	touch $(PROGRAMS_BUILT)

demo:
	$(CARGO) run --release --locked -- demo

# One after another, also with make -j: they share two cores and a target directory. All tests are
# built once, with what the system tests need: they are those of `unit` and `system`.
test:
	$(MAKE) --no-print-directory programs
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory docs
	$(CARGO) test --locked --features system-tests $(AS_ROOT)
	@echo "make test: everything holds"

programs:
	.ci/programs $(PROGRAMS)

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(MAKE) --no-print-directory deny

# Licences, advisories and sources of what is built in.
deny:
	@if command -v cargo-deny >/dev/null; then \
		echo "$(CARGO) deny --all-features check"; $(CARGO) deny --all-features check; \
	else \
		echo "cargo-deny is not installed: licences and advisories are not checked"; \
	fi

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# The manual pages and completions, after a change of a command line; `unit` finds them out of date.
manuals:
	MANUALS=write $(CARGO) test --locked --test documents

# What needs nothing but the kernel.
unit:
	$(CARGO) test --locked

# With programs that we did not write.
system: programs
	$(CARGO) test --locked --features system-tests $(SYSTEM_TESTS) $(AS_ROOT)
	$(CARGO) test --locked --features system-tests --test gate $(AS_ROOT) -- iptables::

# What takes too long for every day: many more random cases, and every scenario often.
test-long: test
	.ci/programs chromium=chromium chromedriver=chromium-driver openssl=openssl \
		ip=iproute2
	$(CARGO) test --locked --features browser-tests --test browser $(AS_ROOT)
	FAULTS=all $(CARGO) test --locked --features system-tests --test faults $(AS_ROOT)
	PROPTEST_CASES=20000 $(CARGO) test --locked --release --lib
	for round in 1 2 3 4 5 6 7 8 9 10; do \
		echo "round $$round"; $(CARGO) test --locked --test gate || exit 1; \
	done

# Beside the daemons that others use, in the same run; about half an hour. All of it is run,
# and the exit code is that of the worst: a target that is missed fails, and is told again at the end
# of its part. BENCH="--write docs/benchmarks.md" also puts the figures into the document.
BENCH ?=
bench:
	.ci/programs knockd=knockd fwknopd=fwknop-server fwknop=fwknop-client \
		iptables-restore=iptables nft=nftables ipset=ipset
	@failed=; \
	for bench in "gate -- --strict $(BENCH)" "restarts -- $(BENCH)" "repair -- $(BENCH)" "core -- --noplot --quick"; do \
		echo "$(CARGO) bench --locked --bench $$bench"; \
		$(CARGO) bench --locked --bench $$bench || failed="$$failed [$${bench%% *}]"; \
	done; \
	if [ -n "$$failed" ]; then \
		echo "make bench: missed or failed, see above:$$failed" >&2; exit 1; \
	fi

# Built by whoever has Rust, installed by root, who may not have it. Hence not built here, but
# nothing that is older than its source is installed.
built:
	@for program in $(PROGRAMS_BUILT); do \
		if [ ! -x $$program ]; then \
			echo "$$program is not there: run make build first" >&2; exit 1; \
		fi; \
		newer=$$(find Cargo.toml Cargo.lock src policy/knockd.yaml -type f -newer $$program) || exit 1; \
		if [ -n "$$newer" ]; then \
			set -- $$newer; \
			echo "$$program is older than $$1: run make build first" >&2; exit 1; \
		fi; \
	done

# The policy and the whitelist are the administrator's: never written over.
install: built
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR)
	install -m 0755 $(BUILT)/knockd $(BUILT)/knockctl $(DESTDIR)$(SBINDIR)
	install -m 0755 $(BUILT)/knock $(DESTDIR)$(BINDIR)
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/knockd
	for file in knockd.yaml knockd.trusted; do \
		if [ -e $(DESTDIR)$(SYSCONFDIR)/knockd/$$file ]; then \
			echo "$(SYSCONFDIR)/knockd/$$file is there and stays as it is"; \
		elif [ $$file = knockd.yaml ] && [ -e $(DESTDIR)$(SYSCONFDIR)/knockd.conf ]; then \
			echo "$(SYSCONFDIR)/knockd.conf is there and will be what runs: no knockd.yaml is" \
				"installed, which would come first (see docs/migrating.md)"; \
		else \
			install -m 0640 policy/$$file $(DESTDIR)$(SYSCONFDIR)/knockd/$$file || exit 1; \
		fi; \
	done
	for unit in knockd.service knockd-early.service; do \
		sed 's|/usr/sbin/|$(SBINDIR)/|' init/$$unit > $(DESTDIR)$(UNITDIR)/$$unit && \
		chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man8
	install -m 0644 docs/man/knock.1 $(DESTDIR)$(MANDIR)/man1
	install -m 0644 docs/man/knockd.8 docs/man/knockctl.8 $(DESTDIR)$(MANDIR)/man8
	install -d $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	for program in knockd knockctl knock; do \
		install -m 0644 docs/completions/$$program.bash $(DESTDIR)$(BASHDIR)/$$program && \
		install -m 0644 docs/completions/$$program.zsh $(DESTDIR)$(ZSHDIR)/_$$program && \
		install -m 0644 docs/completions/$$program.fish $(DESTDIR)$(FISHDIR)/$$program.fish || exit 1; \
	done

# For machines without systemd: the script of the original, its settings and its cron job.
install-sysv: install
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(SYSCONFDIR)/default
	install -d $(DESTDIR)$(SYSCONFDIR)/cron.d
	sed 's|^PATH=|PATH=$(SBINDIR):|; s|/usr/sbin/knock|$(SBINDIR)/knock|' init/knockd \
		> $(DESTDIR)$(SYSCONFDIR)/init.d/knockd
	chmod 0755 $(DESTDIR)$(SYSCONFDIR)/init.d/knockd
	[ -e $(DESTDIR)$(SYSCONFDIR)/default/knockd ] || \
		install -m 0644 init/default/knockd $(DESTDIR)$(SYSCONFDIR)/default/knockd
	install -m 0644 cron/knockd $(DESTDIR)$(SYSCONFDIR)/cron.d/knockd

# For OpenRC. Its cron jobs have no common place; where there is none for every minute, README.md
# has the line.
install-openrc: install
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(SYSCONFDIR)/conf.d
	sed 's|/usr/sbin/|$(SBINDIR)/|' init/openrc/knockd > $(DESTDIR)$(SYSCONFDIR)/init.d/knockd
	chmod 0755 $(DESTDIR)$(SYSCONFDIR)/init.d/knockd
	[ -e $(DESTDIR)$(SYSCONFDIR)/conf.d/knockd ] || \
		install -m 0644 init/openrc/knockd.confd $(DESTDIR)$(SYSCONFDIR)/conf.d/knockd
	@if [ -d $(DESTDIR)$(SYSCONFDIR)/periodic/1min ]; then \
		install -m 0755 cron/periodic $(DESTDIR)$(SYSCONFDIR)/periodic/1min/knockd; \
	else \
		echo "no $(SYSCONFDIR)/periodic/1min: for root's crontab, to start knockd again if it died:"; \
		echo "* * * * * [ ! -x /etc/init.d/knockd ] || /etc/init.d/knockd restartifdead"; \
	fi

# Rules in the kernel, policy, whitelist and state stay; README.md says how to remove them.
uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/knockd $(DESTDIR)$(SBINDIR)/knockctl $(DESTDIR)$(BINDIR)/knock
	rm -f $(DESTDIR)$(UNITDIR)/knockd.service $(DESTDIR)$(UNITDIR)/knockd-early.service
	rm -f $(DESTDIR)$(SYSCONFDIR)/init.d/knockd $(DESTDIR)$(SYSCONFDIR)/cron.d/knockd
	rm -f $(DESTDIR)$(SYSCONFDIR)/periodic/1min/knockd
	rm -f $(DESTDIR)$(MANDIR)/man1/knock.1
	rm -f $(DESTDIR)$(MANDIR)/man8/knockd.8 $(DESTDIR)$(MANDIR)/man8/knockctl.8
	for program in knockd knockctl knock; do \
		rm -f $(DESTDIR)$(BASHDIR)/$$program $(DESTDIR)$(ZSHDIR)/_$$program; \
		rm -f $(DESTDIR)$(FISHDIR)/$$program.fish; \
	done

clean:
	$(CARGO) clean
