//! What the binary carries: the rule files of `rules/`, as they were at build time.

/// A rule file inside the binary.
pub struct ShippedRules {
    /// The collector, or the application's profile, that it is for.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($folder:literal, $($name:literal),*) => {
        &[$(ShippedRules { name: $name, text: include_str!(concat!("../../rules/", $folder, $name, ".yml")) }),*]
    };
}

/// Rules that are loaded unless the configuration says otherwise.
pub const RULES: &[ShippedRules] =
    shipped!("", "app_metrics", "host", "llm_provider", "nightbell", "postgres", "probe", "redis", "sqlite", "vector_store");

/// Rules with one application's own figures, loaded when `rules.profiles` names them.
pub const PROFILES: &[ShippedRules] = shipped!("profiles/", "intent", "llmchat", "multi-agent");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_file_of_the_project_is_in_the_binary() {
        for (folder, shipped) in [("rules", RULES), ("rules/profiles", PROFILES)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let mut names: Vec<String> = std::fs::read_dir(path)
                .expect("the folder can be read")
                .filter_map(|entry| {
                    let path = entry.expect("an entry").path();
                    path.is_file().then(|| path.file_stem().expect("a name").to_string_lossy().into_owned())
                })
                .collect();
            names.sort();
            assert_eq!(shipped.iter().map(|s| s.name).collect::<Vec<_>>(), names);
        }
    }
}
