//! The one integration binary. Each module says what belongs there.

mod alerting;
mod architecture;
mod collecting;
mod collectors_host;
mod collectors_llm_provider;
mod collectors_postgres;
mod collectors_probe;
mod collectors_redis;
mod collectors_sqlite;
mod collectors_vector_store;
mod config;
mod dashboards;
mod end_to_end;
mod exposition;
mod http;
mod notify;
mod program;
mod promql;
mod promql_differential;
mod promql_syntax;
mod rule_files;
mod rules;
mod scrape;
mod servers;
mod state;
mod store;
