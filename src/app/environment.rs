//! Targets that the environment names: `DATABASE_URL`, `REDIS_URL`, `CHROMA_URL`, the keys of LLM
//! providers, `LLM_PROVIDER`.
//!
//! They become a piece of configuration text that refers to the variables, so that they are read,
//! checked and reported like any other.

use std::path::{Path, PathBuf};

use crate::config::{Document, Environment, Loader};
use crate::scrape::{self, Global};

/// Provider, the variable with its key, the variable with its base URL, what applications call it
/// in `LLM_PROVIDER`.
const PROVIDERS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "openai",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        &["openai", "gpt"],
    ),
    (
        "deepseek",
        "DEEPSEEK_API_KEY",
        "DEEPSEEK_BASE_URL",
        &["deepseek"],
    ),
    (
        "anthropic",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        &["anthropic", "claude"],
    ),
    (
        "dashscope",
        "DASHSCOPE_API_KEY",
        "DASHSCOPE_BASE_URL",
        &["dashscope", "qianwen", "qwen", "tongyi", "aliyun"],
    ),
];

/// The targets that the environment names.
#[derive(Debug, Default, PartialEq)]
pub struct EnvironmentTargets {
    /// The `collectors` block as YAML, without the host.
    pub yaml: String,
    /// What is watched because of which variable, for people.
    pub found: Vec<(&'static str, String)>,
    /// Variables that were looked for and are not set.
    pub missing: Vec<&'static str>,
    /// Variables that are set but cannot be used, with the reason.
    pub unusable: Vec<(&'static str, String)>,
}

/// Looks at the environment. A variable whose value no collector takes is reported and watches
/// nothing: the others do.
pub fn discover(environment: &Environment) -> EnvironmentTargets {
    let mut targets = EnvironmentTargets::default();
    let set = |name: &str| environment.get(name).is_some_and(|v| !v.is_empty());
    database(environment, &mut targets);
    for (variable, kind, key) in [
        ("REDIS_URL", "redis", "url"),
        ("CHROMA_URL", "vector_store", "url"),
    ] {
        if set(variable) {
            let name = if kind == "redis" { "redis" } else { "chroma" };
            let line = format!("    - {{name: {name}, {key}: \"${{{variable}}}\"}}\n");
            match refusal(environment, kind, &line) {
                None => {
                    targets.yaml.push_str(&format!("  {kind}:\n{line}"));
                    targets.found.push((variable, kind.to_owned()));
                }
                Some(reason) => targets.unusable.push((variable, reason)),
            }
        } else {
            targets.missing.push(variable);
        }
    }
    providers(environment, &mut targets);
    targets
}

/// Why the collector does not take these settings; `None` when it does. It never quotes a value.
fn refusal(environment: &Environment, kind: &str, line: &str) -> Option<String> {
    let document = match Document::parse("environment", &format!("collectors:\n  {kind}:\n{line}"))
    {
        Ok(document) => document,
        Err(error) => return Some(error.problem),
    };
    let loader = Loader::new(&document, environment, Path::new("."));
    drop(scrape::read_collectors(&loader.root(), &Global::read(None)));
    loader
        .into_errors()
        .0
        .into_iter()
        .next()
        .map(|error| format!("{}; {}", error.problem, error.remedy))
}

fn database(environment: &Environment, targets: &mut EnvironmentTargets) {
    let url = environment.get("DATABASE_URL").unwrap_or("");
    let scheme = url.split(':').next().unwrap_or("");
    // Applications write the driver into the scheme: postgresql+asyncpg://…
    let (kind, line) = match scheme.split('+').next().unwrap_or("") {
        "" => return targets.missing.push("DATABASE_URL"),
        "postgres" | "postgresql" => (
            "postgres",
            "    - {name: postgres, dsn: \"${DATABASE_URL}\"}\n".to_owned(),
        ),
        "mysql" | "mariadb" => (
            "mysql",
            "    - {name: mysql, dsn: \"${DATABASE_URL}\"}\n".to_owned(),
        ),
        "sqlite" | "sqlite3" | "file" => match sqlite_path(url) {
            Some(path) => (
                "sqlite",
                format!("    - {{name: sqlite, path: {path:?}}}\n"),
            ),
            None => {
                return targets.unusable.push((
                    "DATABASE_URL",
                    "names no file: a database in memory cannot be watched".to_owned(),
                ));
            }
        },
        // `host=… dbname=…`, as libpq takes it.
        form if form.contains('=') => (
            "postgres",
            "    - {name: postgres, dsn: \"${DATABASE_URL}\"}\n".to_owned(),
        ),
        other if url.contains(':') => {
            return targets.unusable.push((
                "DATABASE_URL",
                format!("scheme {other:?} has no collector yet"),
            ));
        }
        _ => {
            return targets
                .unusable
                .push(("DATABASE_URL", "is no URL".to_owned()));
        }
    };
    match refusal(environment, kind, &line) {
        None => {
            targets.yaml.push_str(&format!("  {kind}:\n{line}"));
            targets.found.push(("DATABASE_URL", kind.to_owned()));
        }
        Some(reason) => targets.unusable.push(("DATABASE_URL", reason)),
    }
}

/// The file of `sqlite:///app.db`. With three slashes SQLAlchemy means a relative path, others an
/// absolute one: the file that is there is meant.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let (_, rest) = url.split_once(':')?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let name = path.trim_start_matches('/');
    if name.is_empty() || name.contains(":memory:") {
        return None;
    }
    let absolute = PathBuf::from(format!("/{name}"));
    let relative = PathBuf::from(name);
    Some(
        if path.starts_with("//") || (path.starts_with('/') && !relative.exists()) {
            absolute
        } else {
            relative
        },
    )
}

fn providers(environment: &Environment, targets: &mut EnvironmentTargets) {
    let set = |name: &str| environment.get(name).is_some_and(|v| !v.is_empty());
    let selected = environment
        .get("LLM_PROVIDER")
        .unwrap_or("")
        .trim()
        .to_lowercase();
    let mut lines = String::new();
    for (provider, key, base_url, aliases) in PROVIDERS {
        let is_selected = aliases.contains(&selected.as_str());
        if !set(key) {
            targets.missing.push(key);
        }
        if !set(key) && !is_selected {
            continue;
        }
        let mut line = format!("    - {{name: {provider}, provider: {provider}, interval: 60s");
        if set(key) {
            line.push_str(&format!(", api_key: \"${{{key}}}\""));
        }
        if set(base_url) {
            line.push_str(&format!(", base_url: \"${{{base_url}}}\""));
        }
        if !selected.is_empty() {
            line.push_str(&format!(", selected: {is_selected}"));
        }
        line.push_str("}\n");
        let variable = if set(key) { key } else { "LLM_PROVIDER" };
        match refusal(environment, "llm_provider", &line) {
            None => {
                lines.push_str(&line);
                targets
                    .found
                    .push((variable, format!("llm_provider {provider}")));
            }
            Some(reason) => targets.unusable.push((variable, reason)),
        }
    }
    if !selected.is_empty()
        && !PROVIDERS
            .iter()
            .any(|(_, _, _, aliases)| aliases.contains(&selected.as_str()))
    {
        targets.unusable.push((
            "LLM_PROVIDER",
            "names no provider that is known: openai, deepseek, anthropic, dashscope".to_owned(),
        ));
    }
    if !lines.is_empty() {
        targets.yaml.push_str(&format!("  llm_provider:\n{lines}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of the guides become targets; secrets stay behind their names.
    #[test]
    fn variables_become_targets_that_refer_to_them() {
        let environment = Environment::from_pairs([
            ("DATABASE_URL", "postgresql+asyncpg://u:secret@h/db"),
            ("CHROMA_URL", "http://c:8000"),
            ("OPENAI_API_KEY", "sk-secret"),
            ("LLM_PROVIDER", "qianwen"),
        ]);
        let targets = discover(&environment);
        assert!(!targets.yaml.contains("secret"));
        assert!(targets.yaml.contains("dsn: \"${DATABASE_URL}\""));
        assert!(targets.yaml.contains("{name: openai, provider: openai, interval: 60s, api_key: \"${OPENAI_API_KEY}\", selected: false}"));
        assert!(
            targets
                .yaml
                .contains("{name: dashscope, provider: dashscope, interval: 60s, selected: true}")
        );
        assert!(
            targets.missing.contains(&"REDIS_URL")
                && targets.missing.contains(&"DASHSCOPE_API_KEY")
        );
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let environment =
            Environment::from_pairs([("DATABASE_URL", "mssql://h/db"), ("LLM_PROVIDER", "eliza")]);
        let unusable: Vec<_> = discover(&environment)
            .unusable
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(unusable, ["DATABASE_URL", "LLM_PROVIDER"]);
    }

    /// F22: what one variable holds keeps nobody else from being watched, and nothing of it is
    /// shown.
    #[test]
    fn a_variable_that_cannot_be_used_costs_only_itself() {
        let environment = Environment::from_pairs([
            ("DATABASE_URL", "postgresql://u:hunter2@a:1,b:2/db"),
            ("OPENAI_API_KEY", "sk-\u{1}x"),
            ("REDIS_URL", "redis://h"),
        ]);
        let targets = discover(&environment);
        assert_eq!(targets.found, [("REDIS_URL", "redis".to_owned())]);
        let unusable = format!("{:?}", targets.unusable);
        assert!(
            unusable.contains("names several servers; give each server an entry of its own"),
            "{unusable}"
        );
        assert!(
            unusable.contains("OPENAI_API_KEY")
                && !unusable.contains("hunter2")
                && !unusable.contains("sk-"),
            "{unusable}"
        );
    }

    #[test]
    fn an_application_s_sqlite_file_is_watched() {
        let yaml = |url| discover(&Environment::from_pairs([("DATABASE_URL", url)])).yaml;
        assert!(
            yaml("sqlite:///data/none.db").contains("- {name: sqlite, path: \"/data/none.db\"}")
        );
        assert!(
            yaml("sqlite+aiosqlite:////srv/app.db?timeout=5").contains("path: \"/srv/app.db\"")
        );
        assert!(yaml("sqlite:///Cargo.toml").contains("path: \"Cargo.toml\""));
        assert!(yaml("file:./dev.db").contains("path: \"./dev.db\""));
        assert_eq!(yaml("sqlite://") + &yaml("sqlite:///:memory:"), "");
    }
}
