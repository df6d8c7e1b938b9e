//! The one integration binary. Each module says what belongs there.

// Alerting from alerts to messages: timelines in `tests/alerting/*.yml` with a virtual clock,
// restarts, crashes, deliveries.
mod alerting;
// Files of Alertmanager: `check alertmanager` and `routes` beside Debian's amtool, on the corpus in
// `tests/config/alertmanager`.
mod alertmanager_files;
// Alertmanager's API v2 as its clients meet it: Debian's amtool, a real Prometheus that posts its
// alerts, and the answers to wrong requests.
mod amtool;
// Each application from end to end: its stand-in, real databases, the sample configuration of its
// profile, the built binary, and those who are notified.
mod applications;
// The promises of ARCHITECTURE.md that a test can check: floors, file sizes, module docs, names,
// complete tables.
mod architecture;
// Backtests: what rules would have said about stored samples is what live evaluation says,
// evaluation by evaluation.
mod backtest;
// `nightbell check config --connect` with the built binary: what it says of targets that answer,
// and of those that do not.
mod check_connect;
// `nightbell check health` and `nightbell health`, with the built binary: marks, values, limits,
// hints, exit status.
mod check_health;
// No circle of files: which file of `src/` imports which, read from the code, with re-exports
// followed to where a name is defined.
mod circles;
// How tests build a collector from YAML and look at what it brought.
mod collecting;
// The `access_log` collector (C14): a real nginx, own formats, clients above a limit, failed
// logins, and the rules for applications.
mod collectors_access_log;
// The `backup` collector (C15, T24) against what the real pg_dump, tar, gzip, xz, zstd and SQLite
// wrote.
mod collectors_backup;
// The `container` collector (C3, T8) over trees of cgroup v1 and v2 that the test writes, over this
// machine's own cgroups, and with a fake engine on a real socket.
mod collectors_container;
// The `directory` collector over real folders.
mod collectors_directory;
// The `file_integrity` collector over real files.
mod collectors_file_integrity;
// The `host` collector against captured kernel files and what node_exporter 1.11 makes of the same
// files.
mod collectors_host;
// The `job` collector (C18): runs by file, log, report and push; `nightbell job run` and the API of
// Pushgateway against the built binary.
mod collectors_job;
// `log_file` and `access_log` over systemd's journal, by the real journalctl, with files that
// systemd-journal-remote 252 made of entries in export format.
mod collectors_journal;
// The `json_api` collector against servers on real sockets that answer well, badly, late, without
// end and not at all.
mod collectors_json_api;
// The `llm_provider` collector against a real LiteLLM proxy and against a fake of what only paid
// providers do.
mod collectors_llm_provider;
// The pass-through to providers of language models, with the built binary between a client and a
// fake provider (paid ones cannot be had in a test): what passes is unchanged and comes at once,
// what is measured is right, budgets hold, calls outlive reloads and end before a stop.
mod collectors_llm_proxy;
// The providers' own client libraries through the pass-through, OpenTelemetry's own SDK.
mod collectors_llm_libraries;
// The `llm_server` collector: pages of every kind of server, a real LiteLLM.
mod collectors_llm_server;
// The `log_file` collector over real files (C13): every kind of rotation, restarts and `kill -9`,
// and what a log may hold.
mod collectors_log_file;
// The `mysql` collector and its queries against a real MariaDB, with its own client as the second
// opinion.
mod collectors_mysql;
// The `object_storage` collector against a bucket that speaks S3's listing.
mod collectors_object_storage;
// OpenTelemetry's protocol: payloads as an SDK writes them, in Protocol Buffers and in JSON, posted
// to the built binary; what becomes of them, and how it answers.
mod collectors_otlp;
// The `postgres` collector against a real PostgreSQL, with psql as the second opinion.
mod collectors_postgres;
// The `postgres` collector neither changes nor hinders what it watches, gives nobody its rights,
// and loses no more than what fails.
mod collectors_postgres_harmless;
// The `probe` collector against local servers that answer well, badly, late and never.
mod collectors_probe;
// The `probe` collector beyond HTTP: DNS, dialogues over TCP, ICMP, gRPC, modules of
// blackbox_exporter's file, and `/probe`.
mod collectors_probe_kinds;
// The `redis` collector against a real Redis, with redis-cli as the second opinion.
mod collectors_redis;
// The `restore_test` collector (C16, T24) with the real pg_dump, psql, pg_restore, PostgreSQL, tar
// and SQLite.
mod collectors_restore_test;
// The `retrieval` collector beside stand-ins of an application and a store.
mod collectors_retrieval;
// Queries of the configuration, against real PostgreSQL and SQLite; those of MySQL are in
// collectors_mysql.rs.
mod collectors_sql;
// The `sqlite` collector against real files, made and held through sqlx as another client would.
mod collectors_sqlite;
// The `supervisor` collector against a real supervisord.
mod collectors_supervisor;
// The `updates` collector, beside apt's own answer and an index of Python packages on a real socket.
mod collectors_updates;
// The `vector_store` collector against a real Chroma.
mod collectors_vector_store;
// The same collector for other stores: a real pgvector, folders of Chroma and LanceDB, stand-ins.
mod collectors_vector_stores;
// Configuration files: twenty broken ones and what is said about each (issue 2, proof 5), and
// realistic ones that must load.
mod config;
// Dashboards and rules as files: what they ask for exists.
mod dashboards;
// Rules that can never say anything, and the hint of what was meant.
mod dead_rules;
// The unit, the Compose file, the Kubernetes manifests and the Debian package of `deploy/`.
mod deployment;
// The built binary with real servers on both sides: what breaks is notified once, what comes back
// is notified once.
mod end_to_end;
// The text formats: what is read, what is refused, and that what we write reads back.
mod exposition;
// Fuzz targets: broken variants of good inputs for everything that reads what others wrote.
mod fuzz;
// The history on disk: what was appended is there after a restart, bit for bit; what is damaged is
// never served.
mod history;
// The built binary against those who mean harm, and against bad luck, beside a healthy target of
// one second.
mod hostile;
// The HTTP client against servers that misbehave: deadlines, bounds, kinds of errors, and no secret
// in any of them.
mod http;
// The HTTP API v1 rule by rule (SEMANTICS part E), asked of the built binary.
mod http_api;
// Which of the shipped rules' alerts explain which: every name and label that is spoken of is
// there, and people hear of the cause alone.
mod inhibition;
// `nightbell init` with the built binary: a root with a known set of things, real servers, a
// terminal, a hostile file system.
mod init;
// `kill -9` at random instants while a receiver misbehaves at random: nothing is lost, at most one
// repeat for each kill.
mod kill;
// A store that rules are judged over and record into, as in the program, for tests that feed it
// themselves.
mod live;
// Range queries over a long time: windows that are computed together, on several threads, from
// chunks that were kept decoded, give the bits that each gives alone.
mod long_ranges;
// The built binary while its state database is away, hangs, is full or was removed: it goes on
// telling from memory, says so, and is up to date when the database is back, so that `kill -9`
// after that neither loses nor repeats anything.
mod lost_database;
// The maintenance calendar, with the built binary: tasks outlive `kill -9`, jobs count, windows
// silence beforehand.
mod maintenance;
// Every notifier against a local server on a real socket: golden request, refusals, silence, broken
// connections, no secret in any error.
mod notify;
// Profiles: what each application's demands come to, in rule tests; one alert for one fact; what
// has no input yet; the sample configurations.
mod profiles;
// The built binary as its users meet it: start without configuration, environment, reload, health,
// secrets, exit codes, a real Prometheus.
mod program;
// The HTTP API v1 as clients of a Prometheus see it: promtool, `nightbell query`, answers recorded
// from Prometheus 3.5.
mod prometheus_api;
// Runs `tests/promql/*.test`, written in the script language of Prometheus's own `promqltest`
// (<https://pkg.go.dev/github.com/prometheus/prometheus/promql/promqltest>): `clear`, `load STEP`,
// `eval instant at T EXPR`, `eval range from A to B step S EXPR`, with `expect fail msg: TEXT`,
// `expect ordered`, `expect warn` and `expect info` below.
mod promql;
// Random expressions over random samples, answered by the engine and by a real Prometheus; every
// answer, error and remark must agree.
mod promql_differential;
// PromQL's syntax against Prometheus 3.5: the verdict, the canonical form and the error text of
// hundreds of expressions, recorded from the real server's `/api/v1/format_query`.
mod promql_syntax;
// The protobuf exposition in: classic series as text would give them, native histograms into the
// store, and what is refused.
mod protobuf;
// The reference in `docs/reference/` is what the program prints, and complete: keys, metrics,
// commands, HTTP paths.
mod reference;
// Defects that were found by using the built binary: one test for each, so that none returns.
mod regression;
// Reports: their figures are those of the raw samples, computed apart by a few lines of Python;
// their texts are golden; they are sent on a schedule and survive `kill -9`; a month is there when
// the history has forgotten it.
mod reports;
// Rule files: what is accepted, and every mistake at its place, compared with golden files
// (`NIGHTBELL_UPDATE=1` rewrites them).
mod rule_files;
// Alerts whose expression has no result for them any longer: gaps, `no_data`, `recover_expr`.
mod rule_gaps;
// Rules as one program: what rules share is computed once, and every result is what each would have
// got alone; urgent rules do not wait.
mod rule_plan;
// Random rule files with random tests, run by `nightbell test rules` and by a real promtool: output
// and exit code must agree.
mod rule_test_differential;
// The rule engine on timelines of virtual time: a backend that answers each expression from a
// script.
mod rules;
// The collection loop: labels, staleness, limits, hostile targets, reload; and the configuration
// that drives it.
mod scrape;
// Real servers, and fakes of what cannot be had, each on a loopback port of its own.
mod servers;
// The state database: every case on SQLite and on a real PostgreSQL.
mod state;
// `nightbell state backup`, `check` and `restore` with the built binary: all of it, or nothing.
mod state_backup;
// The series store from outside: what it accepts, what it shows, what it forgets.
mod store;
// Templates against the real programs: what `amtool template render` of Alertmanager 0.33 printed
// for hundreds of them, byte for byte.
mod templates;
// Figures that are set by name: each changes its rule and what the rule says of itself, and what is
// wrong with one is said with its place.
mod thresholds;
// `nightbell why` against the built binary: the stages that its rules decide, what became of a
// message, languages and exit codes.
mod why;
