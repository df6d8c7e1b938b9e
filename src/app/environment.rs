//! Targets that the environment names: `DATABASE_URL`, `REDIS_URL`, `CHROMA_URL`, the keys of LLM providers, `LLM_PROVIDER`.
//!
//! They become a piece of configuration text that refers to the variables, so that they are read, checked and reported like any other.

use crate::config::Environment;

/// Provider, the variable with its key, the variable with its base URL, what applications call it in `LLM_PROVIDER`.
const PROVIDERS: [(&str, &str, &str, &[&str]); 4] = [
    ("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", &["openai", "gpt"]),
    ("deepseek", "DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", &["deepseek"]),
    ("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", &["anthropic", "claude"]),
    ("dashscope", "DASHSCOPE_API_KEY", "DASHSCOPE_BASE_URL", &["dashscope", "qianwen", "qwen", "tongyi", "aliyun"]),
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

/// Looks at the environment.
pub fn discover(environment: &Environment) -> EnvironmentTargets {
    let mut targets = EnvironmentTargets::default();
    let set = |name: &str| environment.get(name).is_some_and(|v| !v.is_empty());
    database(environment, &mut targets);
    for (variable, kind, key) in [("REDIS_URL", "redis", "url"), ("CHROMA_URL", "vector_store", "url")] {
        if set(variable) {
            let name = if kind == "redis" { "redis" } else { "chroma" };
            targets.yaml.push_str(&format!("  {kind}:\n    - {{name: {name}, {key}: \"${{{variable}}}\"}}\n"));
            targets.found.push((variable, kind.to_owned()));
        } else {
            targets.missing.push(variable);
        }
    }
    providers(environment, &mut targets);
    targets
}

fn database(environment: &Environment, targets: &mut EnvironmentTargets) {
    let url = environment.get("DATABASE_URL").unwrap_or("");
    let scheme = url.split(':').next().unwrap_or("");
    // Applications write the driver into the scheme: postgresql+asyncpg://…
    match scheme.split('+').next().unwrap_or("") {
        "" => targets.missing.push("DATABASE_URL"),
        "postgres" | "postgresql" => {
            targets.yaml.push_str("  postgres:\n    - {name: postgres, dsn: \"${DATABASE_URL}\"}\n");
            targets.found.push(("DATABASE_URL", "postgres".to_owned()));
        }
        other => targets.unusable.push(("DATABASE_URL", format!("scheme {other:?} has no collector yet"))),
    }
}

fn providers(environment: &Environment, targets: &mut EnvironmentTargets) {
    let set = |name: &str| environment.get(name).is_some_and(|v| !v.is_empty());
    let selected = environment.get("LLM_PROVIDER").unwrap_or("").trim().to_lowercase();
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
        lines.push_str(&format!("{line}}}\n"));
        let variable = if set(key) { key } else { "LLM_PROVIDER" };
        targets.found.push((variable, format!("llm_provider {provider}")));
    }
    if !selected.is_empty() && !PROVIDERS.iter().any(|(_, _, _, aliases)| aliases.contains(&selected.as_str())) {
        targets.unusable.push(("LLM_PROVIDER", "names no provider that is known: openai, deepseek, anthropic, dashscope".to_owned()));
    }
    if !lines.is_empty() {
        targets.yaml.push_str(&format!("  llm_provider:\n{lines}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D3, C9: the variables of the guides become targets; secrets stay behind their names.
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
        assert!(targets.yaml.contains("{name: dashscope, provider: dashscope, interval: 60s, selected: true}"));
        assert!(targets.missing.contains(&"REDIS_URL") && targets.missing.contains(&"DASHSCOPE_API_KEY"));
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let environment = Environment::from_pairs([("DATABASE_URL", "mysql://h/db"), ("LLM_PROVIDER", "eliza")]);
        let unusable: Vec<_> = discover(&environment).unusable.into_iter().map(|(name, _)| name).collect();
        assert_eq!(unusable, ["DATABASE_URL", "LLM_PROVIDER"]);
    }
}
