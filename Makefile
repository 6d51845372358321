# The commands of this project. `make` alone lists them.
#
# PG=15 (default), 16, 17, 18: the Postgres to build for and test against.
PG ?= 15
export PG
# The pg_config of the server that `make install` builds for.
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config

.DEFAULT_GOAL := help
.PHONY: help demo psql stop test test-pure test-inside test-pg test-clients test-all test-long lint shape release format bench build install package test-package clean

help: ## list the targets
	@echo "raptorflow_codex"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done
	@echo
	@echo "  PG=15|16|17|18 picks the version of Postgres, as in: make test PG=16"

demo: ## a private Postgres with the extension, data, and the product's five workflows
	@tools/demo

psql: ## look around in the demo's database (after make demo)
	@tools/server psql demo -d codex_demo

stop: ## stop the private servers
	@tools/server stop-all

test: ## everything: formatting and warnings, pure crates, inside the server, outside as a client
	@tools/test

test-all: ## the same on Postgres 15 to 18, pg_upgrade, the package in a clean Debian, every linter: about an hour
	@tools/test-all

test-pure: ## the crates without Postgres: seconds
	@tools/test pure

test-inside: ## the tests that run inside a server
	@tools/test inside

test-pg: ## the tests that run as a client; ONLY=tenancy runs one folder of pg_test/tests
	@tools/test outside

test-clients: ## the FastAPI example: its tests, and 15 users with 100 requests each
	@tools/test clients

test-long: ## durability at length: 300,000 random calls, 40 crashes, a long soak, adoption of a million rows
	@tools/test long

lint: ## formatting, clippy, rustdoc, shellcheck; unused dependencies, licences, squawk, pgspot
	@tools/test lint

shape: ## write anew what codex.verify() expects, after a change of a migration or a signature
	@tools/shape

format: ## format the Rust code
	@cargo fmt --all

release: ## freeze this version: its install script and the checksums of all it is made of (sql/released.tsv)
	@tools/shape release

bench: ## measure it beside a plain PL/pgSQL baseline: some minutes, results in bench/results
	@tools/bench

build: ## build the extension and install it into the private server
	@tools/setup && tools/build

install: ## build optimised and install into the server of PG_CONFIG=/path/to/pg_config
	@tools/setup && tools/build install "$(PG_CONFIG)"

package: ## build a Debian package for this version of Postgres: .build/package/*.deb
	@tools/package

test-package: ## install the package into a clean Debian that is made for it, and use it there
	@tools/test-package

clean: ## stop the private servers, remove their data and everything built (cargo-pgrx stays)
	@tools/clean
